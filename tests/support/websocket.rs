//! A WebSocket client by hand (RFC 6455), which can also break the rules.

use std::net::SocketAddr;

use super::client::{Client, HttpResponse};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
pub(crate) const FIN: u8 = 0x80;

/// The fields of an opening handshake with the key of RFC 6455 §1.3.
pub(crate) const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What the server must respond to that key.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection after its opening handshake.
pub(crate) struct WebSocketClient {
    pub(crate) client: Client,
}

impl WebSocketClient {
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Self {
        let mut client = Client::connect(address);
        let response = Self::handshake(&mut client, path);
        assert_eq!(response.status, 101, "{}", response.head);
        Self { client }
    }

    pub(crate) fn handshake(client: &mut Client, path: &str) -> HttpResponse {
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\n{HANDSHAKE}\r\n"
        ));
        client.head()
    }

    pub(crate) fn send(&mut self, opcode: u8, payload: impl AsRef<[u8]>) -> &mut Self {
        self.client.send(frame(FIN | opcode, payload.as_ref()));
        self
    }

    /// Reads the next frame: its first byte and its payload.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.client.read(2);
        let len = match head[1] {
            126 => self.number(2),
            127 => self.number(8),
            len @ 0..126 => usize::from(len),
            _ => panic!("a server masks nothing"),
        };
        (head[0], self.client.read(len))
    }

    fn number(&mut self, bytes: usize) -> usize {
        let bytes = self.client.read(bytes);
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, opcode: u8, payload: impl AsRef<[u8]>) {
        let (first, received) = self.frame();
        assert_eq!(first, FIN | opcode);
        assert!(received == payload.as_ref(), "{} bytes", received.len());
    }

    /// Reads the next text message.
    pub(crate) fn text(&mut self) -> String {
        let (first, payload) = self.frame();
        assert_eq!(first, FIN | TEXT);
        String::from_utf8(payload).expect("UTF-8")
    }

    /// Reads a Close frame and returns its code.
    #[track_caller]
    pub(crate) fn close_code(&mut self) -> u16 {
        let (first, payload) = self.frame();
        assert_eq!(first, FIN | CLOSE, "{payload:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    pub(crate) fn send_close(&mut self, code: u16) -> &mut Self {
        self.send(CLOSE, code.to_be_bytes())
    }
}

/// A frame of a client, whose first byte is `first`.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(MASKED | len as u8),
        len @ 126..65_536 => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

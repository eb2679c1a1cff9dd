//! How much of a download comes before a stylesheet that is requested later, on one HTTP/2 connection
//! to a client that takes 1 MB/s.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http2_client::{Http2Client, PrioritySignal};
use crate::servers::{Profile, ServerSetup, Transport};

use super::context::BenchContext;
use super::measurement::{Measurements, measure_setups};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[
    metric("no priorities"),
    metric("priorities of RFC 9218"),
    metric("priorities of RFC 7540"),
];

const fn metric(name: &'static str) -> Metric {
    Metric {
        name,
        unit: "kB",
        plot: Plot::Stylesheet,
    }
}

const BYTES_PER_SECOND: f64 = 1e6;

/// The time from the request for the download to the others: all buffers are full then.
const DOWNLOAD_ALONE: Duration = Duration::from_secs(3);

const TIMEOUT: Duration = Duration::from_secs(30);

/// The priorities of the download, the stylesheet and an image, as Chromium sends them.
const SIGNALS: [[PrioritySignal; 3]; 3] = {
    use PrioritySignal::{Field, None, Weight};
    [
        [None, None, None],
        [Field("u=5, i"), Field("u=0"), Field("u=3, i")],
        [Weight(109), Weight(255), Weight(146)],
    ]
};

const DOWNLOAD: u32 = 1;
const STYLESHEET: u32 = 3;
const IMAGE: u32 = 5;

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let download = context.files.large_file()?;
    let measure = |setup: &ServerSetup| {
        let running = context.start(*setup, &context.files.root)?;
        let measured = SIGNALS.iter().map(|signals| {
            let bytes = bytes_before_stylesheet(running.address, download, *signals);
            bytes.map(|bytes| bytes as f64 / 1e3)
        });
        let measured: io::Result<Vec<f64>> = measured.collect();
        measured.map_err(|error| error.to_string())
    };
    let lineup = context.lineup_over(Transport::Http2Cleartext, Profile::LargeFiles);
    measure_setups(&lineup, 1, measure)
}

/// Returns how many bytes of the download arrive between the request for the stylesheet and its end.
fn bytes_before_stylesheet(
    address: SocketAddr,
    download: &str,
    [of_download, of_stylesheet, of_image]: [PrioritySignal; 3],
) -> io::Result<u64> {
    let start = Instant::now();
    let mut client = Http2Client::connect(address, BYTES_PER_SECOND)?;
    client.request(DOWNLOAD, download, of_download)?;
    while start.elapsed() < DOWNLOAD_ALONE {
        client.receive()?;
    }
    let before = client.progress(DOWNLOAD).bytes;
    client.request(STYLESHEET, "/style.css", of_stylesheet)?;
    client.request(IMAGE, "/300K.png", of_image)?;
    while !client.progress(STYLESHEET).is_complete {
        if start.elapsed() > TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.receive()?;
    }
    Ok(client.progress(DOWNLOAD).bytes - before)
}

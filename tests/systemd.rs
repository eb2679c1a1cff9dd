//! Tests of the systemd protocols: inherited sockets (sd_listen_fds(3)), and notifications and
//! watchdog (sd_notify(3)).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::client::TIMEOUT;
use crate::support::{ChildProcess, Client, TwsProcess, eventually};

/// Returns a folder with a file to serve, and a config file beside it.
fn site_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir_all(folder.path().join("site")).expect("create directory");
    fs::write(folder.path().join("site/a.txt"), "a").expect("write file");
    configure(folder.path(), "");
    folder
}

fn configure(folder: &Path, more: &str) {
    let text = format!("directory = \"site\"\naccess-log = \"off\"\nworkers = 2\n{more}");
    fs::write(folder.join("new"), text).expect("write file");
    fs::rename(folder.join("new"), folder.join("tws.toml")).expect("rename file");
}

/// Returns a command that runs the binary with one or two inherited sockets, which a shell moves to
/// their descriptors. The shell redirects standard error to the file `errors`.
fn with_sockets(folder: &Path, sockets: Vec<OwnedFd>, names: &str) -> Command {
    let count = sockets.len();
    let mut command = Command::new("sh");
    let script = match count {
        1 => "exec 3<&0 0</dev/null 2>errors",
        _ => "exec 3<&0 4<&2 0</dev/null 2>errors",
    };
    let script = format!(
        "{script}; LISTEN_PID=${{PID:-$$}} LISTEN_FDS={count} LISTEN_FDNAMES={names} exec \"$0\" \"$@\""
    );
    command
        .current_dir(folder)
        .args(["-c", &script, env!("CARGO_BIN_EXE_tws")])
        .arg("--config=tws.toml");
    let mut sockets = sockets.into_iter();
    command.stdin(sockets.next().expect("at least one socket"));
    command.stderr(sockets.next().map_or(Stdio::null(), Stdio::from));
    command
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("bind TCP port")
}

const REQUEST: &[u8] = b"GET /a.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// Sends a request and returns a function that reads the response.
fn send_request<S: Read + Write>(mut stream: S) -> impl FnOnce() -> String {
    stream.write_all(REQUEST).expect("send request");
    move || {
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("read response");
        response
    }
}

#[test]
fn inherited_sockets_are_served_instead_of_own_port() {
    let folder = site_folder();
    let tcp = listener();
    let address = tcp.local_addr().expect("local address");
    let path = folder.path().join("tws.sock");
    let unix = UnixListener::bind(&path).expect("bind Unix socket");
    // The connections are made before the process runs.
    let stream = TcpStream::connect(address).expect("connect");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("set read timeout");
    let first = send_request(stream);
    let stream = UnixStream::connect(&path).expect("connect");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("set read timeout");
    let second = send_request(stream);
    // A port that is in use.
    let taken = listener();
    let port = taken.local_addr().expect("local address").port();
    let mut command = with_sockets(folder.path(), vec![tcp.into(), unix.into()], "");
    command.arg(format!("--port={port}"));
    let mut process = TwsProcess::run(&mut command);
    drop(command);
    assert_eq!(process.address, address);
    for response in [first(), second()] {
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(response.ends_with("\r\n\r\na"), "{response}");
    }
    process.signal(Signal::TERM);
    assert!(process.child.wait_for_exit().success());
    assert!(
        TcpStream::connect(address).is_err(),
        "the port is still open"
    );
    let errors = fs::read_to_string(folder.path().join("errors"));
    assert_eq!(errors.expect("read standard error"), "");
}

#[test]
fn inherited_socket_named_admin_serves_admin_interface() {
    let folder = site_folder();
    let (admin, web) = (listener(), listener());
    let addresses = [&web, &admin].map(|listener| listener.local_addr().expect("local address"));
    let sockets = vec![admin.into(), web.into()];
    let mut command = with_sockets(folder.path(), sockets, "admin:web");
    command.arg("--admin=127.0.0.1:1");
    let process = TwsProcess::run(&mut command);
    assert_eq!(process.address, addresses[0]);
    assert_eq!(process.admin, Some(addresses[1]));
    assert_eq!(process.client().get("/a.txt").text(), "a");
    let mut operator = Client::connect(addresses[1]);
    operator.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    eventually!(|| {
        let status = operator.response().status;
        operator.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        status == 200
    });
}

#[test]
fn sockets_with_foreign_listen_pid_are_ignored() {
    let folder = site_folder();
    let socket = listener();
    let address = socket.local_addr().expect("local address");
    let mut command = with_sockets(folder.path(), vec![socket.into()], "");
    command.env("PID", "1").arg("--port=0");
    let process = TwsProcess::run(&mut command);
    assert_ne!(process.address, address);
    assert_eq!(process.client().get("/a.txt").text(), "a");
}

#[test]
fn unusable_inherited_socket_is_one_line_error() {
    let folder = site_folder();
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").expect("bind UDP port"));
    let connection = || {
        let listener = listener();
        let address = listener.local_addr().expect("local address");
        OwnedFd::from(TcpStream::connect(address).expect("connect"))
    };
    let file = || OwnedFd::from(File::open("/dev/null").expect("open file"));
    let tcp = || OwnedFd::from(listener());
    let exposed = || OwnedFd::from(TcpListener::bind("0.0.0.0:0").expect("bind TCP port"));
    let table: [(OwnedFd, &str, &[&str], &str); 8] = [
        (udp(), "", &[], "neither a TCP nor a Unix stream socket"),
        (file(), "web", &[], "(\"web\") is neither"),
        (connection(), "", &[], "Accept=no"),
        (tcp(), "a:b", &[], "LISTEN_FDNAMES: 2 names for 1"),
        (tcp(), "admin", &[], "--admin, which is not set"),
        (tcp(), "redirect", &[], "FileDescriptorName="),
        (exposed(), "", &["--upload"], "--auth-file"),
        (exposed(), "admin", &["--admin=127.0.0.1:0"], "--auth-file"),
    ];
    for (socket, names, args, expected) in table {
        let mut command = with_sockets(folder.path(), vec![socket], names);
        command.args(args).stdout(Stdio::null());
        let status = command.status().expect("run shell");
        assert!(!status.success(), "{names:?} {args:?}");
        let errors = fs::read_to_string(folder.path().join("errors")).expect("read file");
        assert!(errors.starts_with("tws: "), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

/// --bind has no effect with inherited sockets, so it is no reason to reject uploads either.
#[test]
fn uploads_without_passwords_are_judged_by_inherited_socket_addresses() {
    let folder = site_folder();
    let mut command = with_sockets(folder.path(), vec![listener().into()], "");
    command.args(["--upload", "--bind=0.0.0.0"]);
    let process = TwsProcess::run(&mut command);
    assert_eq!(process.client().get("/a.txt").text(), "a");
    drop(process);
    let exposed = TcpListener::bind("0.0.0.0:0").expect("bind TCP port");
    let mut command = with_sockets(folder.path(), vec![exposed.into()], "");
    let process = TwsProcess::run(&mut command);
    configure(folder.path(), "[upload]\n");
    process.signal(Signal::HUP);
    let errors = folder.path().join("errors");
    eventually!(|| fs::read_to_string(&errors).is_ok_and(|text| text.contains("--auth-file")));
}

/// The socket of a supervisor that receives notifications.
struct NotifySocket {
    socket: UnixDatagram,
    name: String,
}

impl NotifySocket {
    fn at_path(folder: &Path) -> Self {
        let path = folder.join("notify");
        let name = path.display().to_string();
        Self::on(UnixDatagram::bind(path).expect("bind Unix socket"), name)
    }

    fn at_abstract_name(name: &str) -> Self {
        let name = format!("tws/{name}/{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("valid abstract socket name");
        let socket = UnixDatagram::bind_addr(&address).expect("bind Unix socket");
        Self::on(socket, format!("@{name}"))
    }

    fn on(socket: UnixDatagram, name: String) -> Self {
        socket
            .set_read_timeout(Some(TIMEOUT))
            .expect("set read timeout");
        Self { socket, name }
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 4096];
        let count = self.socket.recv(&mut buffer).expect("receive notification");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// Returns the next message that is not the watchdog's.
    fn receive_skipping_watchdog(&self) -> String {
        let mut text = String::new();
        eventually!(|| {
            text = self.receive();
            text != "WATCHDOG=1"
        });
        text
    }
}

/// A main process that replaced another one, and is not a child of this process; it is killed when
/// this is dropped.
struct NewMainProcess(Pid);

impl NewMainProcess {
    fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("signal process");
    }
}

impl Drop for NewMainProcess {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// From start to end, inside the sandbox, with inherited sockets and two upgrades.
#[test]
fn notify_reports_start_reload_upgrade_and_stop_in_order() {
    for kind in ["path", "abstract"] {
        let folder = site_folder();
        let supervisor = match kind {
            "path" => NotifySocket::at_path(folder.path()),
            _ => NotifySocket::at_abstract_name("order"),
        };
        let socket = listener();
        let address = socket.local_addr().expect("local address");
        let mut command = with_sockets(folder.path(), vec![socket.into()], "");
        command.env("NOTIFY_SOCKET", &supervisor.name);
        let mut process = TwsProcess::run(&mut command);
        drop(command);
        let ready = format!("READY=1\nSTATUS=serving site at {address}");
        assert_eq!(supervisor.receive(), ready);

        configure(folder.path(), "index = [\"a.txt\"]\n");
        process.signal(Signal::HUP);
        let text = supervisor.receive();
        assert!(text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{text}");
        assert_eq!(supervisor.receive(), ready);
        eventually!(|| process.client().get("/").text() == "a");
        configure(folder.path(), "prot = 1\n");
        process.signal(Signal::HUP);
        assert!(supervisor.receive().starts_with("RELOADING=1\n"));
        let text = supervisor.receive();
        let reason = text.strip_prefix("READY=1\nSTATUS=reload failed: ");
        let reason = reason.expect("reason of the failed reload");
        assert!(reason.contains("tws.toml:4: "), "{reason}");
        assert!(reason.contains(&address.to_string()), "{reason}");
        configure(folder.path(), "");

        let mut pid = None;
        for _ in 0..2 {
            match &pid {
                None => process.signal(Signal::USR2),
                Some(NewMainProcess(pid)) => {
                    kill_process(*pid, Signal::USR2).expect("signal process");
                }
            }
            let text = supervisor.receive();
            let new = text.strip_prefix("MAINPID=").expect("MAINPID notification");
            let new = Pid::from_raw(new.parse().expect("a number")).expect("nonzero pid");
            assert!(supervisor.receive().starts_with("READY=1\nSTATUS=serving "));
            assert_eq!(Client::connect(address).get("/a.txt").text(), "a");
            // The replaced process exits by itself and sends no notification.
            pid = Some(NewMainProcess(new));
        }
        assert!(process.child.wait_for_exit().success());
        let last = pid.expect("process id");
        last.signal(Signal::TERM);
        assert!(supervisor.receive().starts_with("STOPPING=1\n"));
        eventually!(|| TcpStream::connect(address).is_err());
    }
}

#[test]
fn watchdog_is_notified_by_main_process_only() {
    let folder = site_folder();
    let supervisor = NotifySocket::at_path(folder.path());
    let start = |usec: &str, pid: Option<&str>| {
        let mut command = Command::new("sh");
        let script = "WATCHDOG_PID=${PID:-$$} exec \"$0\" \"$@\"";
        command
            .current_dir(folder.path())
            .args(["-c", script, env!("CARGO_BIN_EXE_tws")])
            .args(["--config=tws.toml", "--port=0"])
            .env("NOTIFY_SOCKET", &supervisor.name)
            .env("WATCHDOG_USEC", usec)
            .envs(pid.map(|pid| ("PID", pid)))
            .stdin(Stdio::null());
        TwsProcess::run(&mut command)
    };
    // Neither for an invalid interval nor for another process.
    for (usec, pid) in [("0", None), ("x", None), ("1000", Some("1"))] {
        let mut process = start(usec, pid);
        assert!(supervisor.receive().starts_with("READY=1\n"));
        process.signal(Signal::TERM);
        assert!(supervisor.receive().starts_with("STOPPING=1\n"));
        assert!(process.child.wait_for_exit().success());
    }
    let mut process = start("20000", None);
    assert!(
        supervisor
            .receive_skipping_watchdog()
            .starts_with("READY=1\n")
    );
    (0..3).for_each(|_| assert_eq!(supervisor.receive(), "WATCHDOG=1"));
    process.signal(Signal::USR2);
    let text = supervisor.receive_skipping_watchdog();
    let pid = text.strip_prefix("MAINPID=").expect("MAINPID notification");
    let pid = Pid::from_raw(pid.parse().expect("a number")).expect("nonzero pid");
    let new = NewMainProcess(pid);
    assert!(
        supervisor
            .receive_skipping_watchdog()
            .starts_with("READY=1\n")
    );
    assert!(process.child.wait_for_exit().success());
    // All notifications of the old process precede this one.
    new.signal(Signal::HUP);
    for word in ["RELOADING=1\n", "READY=1\n"] {
        assert!(supervisor.receive_skipping_watchdog().starts_with(word));
    }
    (0..3).for_each(|_| assert_eq!(supervisor.receive(), "WATCHDOG=1"));
    new.signal(Signal::TERM);
    assert!(
        supervisor
            .receive_skipping_watchdog()
            .starts_with("STOPPING=1\n")
    );
}

#[test]
fn missing_notify_socket_is_only_a_warning() {
    let folder = site_folder();
    let errors = folder.path().join("errors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args(["--config=tws.toml", "--port=0"])
        .env("NOTIFY_SOCKET", folder.path().join("nobody"))
        .stdin(Stdio::null())
        .stderr(File::create(&errors).expect("create file"));
    let mut process = TwsProcess::run(&mut command);
    assert_eq!(process.client().get("/a.txt").text(), "a");
    process.signal(Signal::TERM);
    assert!(process.child.wait_for_exit().success());
    let errors = fs::read_to_string(&errors).expect("read file");
    assert!(errors.contains("NOTIFY_SOCKET="), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

/// Sends a request to a Unix socket for which systemd starts the program.
fn request_unix(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("connect");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("set read timeout");
    let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send request");
    stream
        .shutdown(Shutdown::Write)
        .expect("shut down sending side");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("read response");
    response
}

#[test]
#[ignore = "needs systemd-socket-activate"]
fn systemd_socket_activate_with_and_without_names_is_served() {
    for names in [None, Some("--fdname=web:admin")] {
        let folder = site_folder();
        let [web, other] = ["web", "other"].map(|name| folder.path().join(name));
        let mut command = Command::new("systemd-socket-activate");
        command
            .current_dir(folder.path())
            .arg("-l")
            .arg(&web)
            .arg("-l")
            .arg(&other)
            .args(names)
            .arg(env!("CARGO_BIN_EXE_tws"))
            .args(["--config=tws.toml", "--admin=127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = ChildProcess::start(&mut command);
        eventually!(|| web.exists() && other.exists());
        let response = request_unix(&web, "/a.txt");
        assert!(response.ends_with("\r\n\r\na"), "{response}");
        let (target, expected) = match names {
            None => ("/a.txt", "\r\n\r\na"),
            Some(_) => ("/readyz", "\r\n\r\nok\n"),
        };
        let response = request_unix(&other, target);
        assert!(response.ends_with(expected), "{response}");
        child.signal(Signal::TERM);
        assert!(child.wait_for_exit().success());
    }
}

//! Tests of three instances with the same files behind haproxy (PROXY protocol) and nginx
//! (X-Forwarded-For), and of three instances with one user database.
//!
//! The tests are ignored by default because the programs must be installed.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::external_server::ExternalServer;
use crate::support::load::{WrkLoad, load};
use crate::support::metrics::Metrics;
use crate::support::ports::free_port;
use crate::support::recipes;
use crate::support::upgradable_process::UpgradableProcess;
use crate::support::{self, Client, HttpResponse, eventually, pattern};

/// The field in which a balancer names the instance: an address, or several of which the last one
/// responded.
const INSTANCE: &str = "X-Instance";

const LARGE: usize = 1024 * 1024;
/// More than all socket buffers on the path hold.
const HUGE: usize = 64 * LARGE;

/// One of several servers of the same files.
struct Instance {
    process: UpgradableProcess,
    arguments: Vec<String>,
    address: SocketAddr,
    admin: SocketAddr,
    socket: PathBuf,
    log: PathBuf,
    site: TempDir,
    _own: TempDir,
}

impl Instance {
    fn start(site: TempDir, more: &[&str]) -> Self {
        let own = tempfile::tempdir().expect("create temporary directory");
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        // Known ports, so that the instance has the same address after a restart.
        let (address, admin) = (local(free_port()), local(free_port()));
        let socket = own.path().join("socket");
        let log = own.path().join("access.log");
        let mut arguments = vec![
            format!("--bind={address}"),
            format!("--bind=unix:{}", socket.display()),
            format!("--admin={admin}"),
            format!("--access-log={}", log.display()),
            format!("--state-dir={}", own.path().display()),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self {
            process: Self::run(site.path(), &arguments),
            arguments,
            address,
            admin,
            socket,
            log,
            site,
            _own: own,
        }
    }

    fn run(site: &Path, arguments: &[String]) -> UpgradableProcess {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
        command.current_dir(site).args(arguments);
        UpgradableProcess::start(command)
    }

    fn start_again(&mut self) {
        self.process = Self::run(self.site.path(), &self.arguments);
    }

    fn has_responded(&self, response: &HttpResponse) -> bool {
        let names = response.field(INSTANCE).expect("instance field");
        let last = names.rsplit(", ").next().expect("a name");
        last == self.address.to_string() || Path::new(last) == self.unix_name()
    }

    /// The socket's name in nginx's notation.
    fn unix_name(&self) -> PathBuf {
        PathBuf::from(format!("unix:{}", self.socket.display()))
    }

    /// Repeats a request through a balancer until this instance has responded.
    fn get_from(&self, client: &mut Client, path: &str, fields: &str) -> HttpResponse {
        let mut response = client.request("GET", path, fields);
        eventually!(|| {
            let is_its = self.has_responded(&response);
            if !is_its {
                response = client.request("GET", path, fields);
            }
            is_its
        });
        response
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("read log")
    }

    fn metrics(&self) -> Metrics {
        let mut client = Client::connect(self.admin);
        client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Metrics::parse(&client.response().text())
    }
}

/// The modification times of a copied tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModificationTimes {
    Kept,
    Own,
}

fn copies(times: ModificationTimes) -> [TempDir; 3] {
    let tree = tempfile::tempdir().expect("create temporary directory");
    for (name, content) in [
        ("index.html", b"<p>home".to_vec()),
        ("a.txt", b"a".to_vec()),
        ("large.bin", pattern(LARGE)),
        ("huge.bin", vec![0; HUGE]),
    ] {
        let path = tree.path().join(name);
        fs::write(&path, content).expect("write file");
        set_time(&path, Duration::new(784_111_777, 123_456_789));
    }
    [1, 2, 3].map(|number| {
        let copy = tempfile::tempdir().expect("create temporary directory");
        let mut cp = Command::new("cp");
        let cp = cp
            .arg("-a")
            .arg(tree.path().join("."))
            .arg(copy.path())
            .status();
        assert!(cp.expect("run cp").success());
        if times == ModificationTimes::Own {
            for entry in fs::read_dir(copy.path()).expect("read directory") {
                let path = entry.expect("read directory entry").path();
                set_time(&path, Duration::from_secs(784_111_777 + number));
            }
        }
        copy
    })
}

fn set_time(path: &Path, since: Duration) {
    let file = fs::File::options()
        .write(true)
        .open(path)
        .expect("open file");
    let time = SystemTime::UNIX_EPOCH + since;
    file.set_modified(time).expect("set modification time");
}

fn start_instances(times: ModificationTimes, more: &[&str]) -> [Instance; 3] {
    copies(times).map(|site| Instance::start(site, more))
}

/// Starts haproxy with the configuration of `.readme/operating.md`.
fn haproxy(instances: &[Instance]) -> ExternalServer {
    let servers: String = instances
        .iter()
        .map(|instance| {
            let (name, port) = (instance.address, instance.admin.port());
            format!("    server {name} {name} port {port}\n")
        })
        .collect();
    support::haproxy::before(&format!(
        "    balance roundrobin
    option httpchk GET /readyz
    timeout check 60s
    option redispatch 1
    retry-on conn-failure empty-response
    http-request disable-l7-retry if !METH_GET
    http-response set-header {INSTANCE} %si:%sp
    default-server send-proxy-v2 check inter 100ms fall 2 rise 1
{servers}"
    ))
}

/// Starts nginx with the recipe of `.readme/operating.md`. The names are addresses, or paths after `unix:`.
fn nginx(names: &[String]) -> ExternalServer {
    let servers: String = names
        .iter()
        .map(|name| format!("server {name} fail_timeout=1s; "))
        .collect();
    support::nginx::before(|recipe| {
        let own = "server 127.0.0.1:8001 fail_timeout=1s; server 127.0.0.1:8002 fail_timeout=1s; ";
        let recipe = recipes::with(recipe, own, &servers);
        let field = format!("location / {{ add_header {INSTANCE} $upstream_addr always;");
        recipes::with(&recipe, "location / {", &field)
    })
}

fn addresses(instances: &[Instance]) -> Vec<String> {
    let address = |instance: &Instance| instance.address.to_string();
    instances.iter().map(address).collect()
}

/// Asserts that the responses through a balancer do not depend on the instance.
fn assert_equal_responses(
    instances: &[Instance; 3],
    balancer: SocketAddr,
    times: ModificationTimes,
) {
    let mut client = Client::connect_from([127, 0, 0, 7], balancer);
    for path in ["/", "/a.txt", "/large.bin"] {
        let responses = instances
            .each_ref()
            .map(|at| at.get_from(&mut client, path, ""));
        let tags = responses.each_ref().map(|response| response.field("ETag"));
        let tag = tags[0].expect("ETag field");
        assert!(tag.starts_with('"'), "{tag} is weak");
        assert_eq!(tags, [Some(tag); 3], "{path}");
        let dates = responses
            .each_ref()
            .map(|response| response.field("Last-Modified"));
        let dates: BTreeSet<_> = dates.into_iter().collect();
        let different = match times {
            ModificationTimes::Kept => 1,
            ModificationTimes::Own => instances.len(),
        };
        assert_eq!(dates.len(), different, "{path} {dates:?}");
        for at in instances {
            let fields = format!("If-None-Match: {tag}\r\n");
            assert_eq!(
                at.get_from(&mut client, path, &fields).status,
                304,
                "{path}"
            );
        }
        // A download of which each instance sends a part.
        let whole = &responses[0].content;
        let mut joined = Vec::new();
        for at in instances {
            let (first, last) = (joined.len(), joined.len() + whole.len().div_ceil(3) - 1);
            let fields = format!("If-Range: {tag}\r\nRange: bytes={first}-{last}\r\n");
            if first < whole.len() {
                let response = at.get_from(&mut client, path, &fields);
                assert_eq!(response.status, 206, "{path}");
                joined.extend(response.content);
            }
        }
        assert_eq!(&joined, whole, "{path}");
    }
    for at in instances {
        eventually!(|| at.log().lines().count() >= 3 * 3);
        let log = at.log();
        let is_clients = |line: &str| line.starts_with("127.0.0.7 - - [");
        assert!(log.lines().all(is_clients), "{log}");
    }
}

#[test]
#[ignore = "needs haproxy"]
fn haproxy_instances_give_equal_responses() {
    for (times, etag) in [
        (ModificationTimes::Kept, "mtime"),
        (ModificationTimes::Own, "content"),
    ] {
        let instances = start_instances(times, &["--proxy-protocol", "--etag", etag]);
        let proxy = haproxy(&instances);
        assert_equal_responses(&instances, proxy.address, times);
    }
}

#[test]
#[ignore = "needs nginx"]
fn nginx_instances_give_equal_responses() {
    let instances = start_instances(
        ModificationTimes::Kept,
        &["--trusted-proxy=127.0.0.0/8,unix"],
    );
    let at_sockets = |at: &Instance| at.unix_name().display().to_string();
    let at_sockets: Vec<_> = instances.iter().map(at_sockets).collect();
    for names in [addresses(&instances), at_sockets] {
        let proxy = nginx(&names);
        assert_equal_responses(&instances, proxy.address, ModificationTimes::Kept);
    }
}

/// Stops and restarts one instance and upgrades another, while clients send requests without a
/// pause, and asserts that every request succeeds.
fn assert_no_request_fails(mut instances: [Instance; 3], balancer: SocketAddr) {
    let mut client = Client::connect(balancer);
    for at in &instances {
        at.get_from(&mut client, "/a.txt", "");
    }
    let (over, done) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let clients = load(balancer, &over, &done);
    let wrk = WrkLoad::on(balancer, &["-t1", "-c8"]);
    let wait_for_progress = || {
        let before = done.load(Ordering::Relaxed);
        eventually!(|| done.load(Ordering::Relaxed) > before + 200);
    };
    wait_for_progress();
    let [_, second, third] = &mut instances;
    let mut download = Client::connect(balancer);
    loop {
        download.send("GET /huge.bin HTTP/1.1\r\nHost: test\r\n\r\n");
        if second.has_responded(&download.head()) {
            break;
        }
        download = Client::connect(balancer);
    }
    second.process.signal(Signal::TERM);
    // The instance accepts no more connections, and finishes its responses.
    eventually!(|| TcpStream::connect(second.address).is_err());
    assert_eq!(download.read(HUGE).len(), HUGE);
    drop(download);
    let end = second.process.child.wait_for_exit();
    assert_eq!(end.code(), Some(0));
    wait_for_progress();
    second.start_again();
    second.get_from(&mut client, "/a.txt", "");
    wait_for_progress();
    third.process.upgrade();
    third.get_from(&mut client, "/a.txt", "");
    wait_for_progress();
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request fails");
    }
    wrk.end();
}

#[test]
#[ignore = "needs haproxy and wrk"]
fn haproxy_restart_and_upgrade_lose_no_request() {
    let instances = start_instances(
        ModificationTimes::Kept,
        &["--proxy-protocol", "--drain-delay=1"],
    );
    let proxy = haproxy(&instances);
    assert_no_request_fails(instances, proxy.address);
}

#[test]
#[ignore = "needs nginx and wrk"]
fn nginx_restart_and_upgrade_lose_no_request() {
    let instances = start_instances(ModificationTimes::Kept, &["--trusted-proxy=127.0.0.0/8"]);
    let proxy = nginx(&addresses(&instances));
    assert_no_request_fails(instances, proxy.address);
}

/// Each instance limits each client, however the balancer distributes the connections.
#[test]
#[ignore = "needs nginx"]
fn nginx_clients_have_separate_rate_limits() {
    const BURST: usize = 3;
    let limit = format!("--rate-limit=0.001:{BURST}");
    let instances = start_instances(
        ModificationTimes::Kept,
        &["--trusted-proxy=127.0.0.0/8", &limit],
    );
    let proxy = nginx(&addresses(&instances));
    for source in [[127, 0, 0, 8], [127, 0, 0, 9]] {
        let mut client = Client::connect_from(source, proxy.address);
        let mut served = 0;
        for _ in 0..5 * BURST * instances.len() {
            match client.get("/a.txt").status {
                200 => served += 1,
                status => assert_eq!(status, 429),
            }
        }
        assert_eq!(served, BURST * instances.len(), "{source:?}");
    }
}

#[test]
#[ignore = "needs haproxy"]
fn each_instance_metrics_count_own_requests() {
    let instances = start_instances(ModificationTimes::Kept, &["--proxy-protocol"]);
    let proxy = haproxy(&instances);
    let mut client = Client::connect(proxy.address);
    let mut requests_sent = [0.0; 3];
    for at in (0..10).flat_map(|_| [0, 0, 1]) {
        loop {
            let response = client.get("/a.txt");
            let by = instances.iter().position(|at| at.has_responded(&response));
            let by = by.expect("a known instance");
            requests_sent[by] += 1.0;
            if by == at {
                break;
            }
        }
    }
    for (at, requests_sent) in instances.iter().zip(requests_sent) {
        let responses = || {
            let metrics = at.metrics();
            metrics.value("tws_responses_total", &[("code", "200")])
        };
        eventually!(|| responses() == requests_sent);
        let metrics = at.metrics();
        assert_eq!(metrics.value("tws_ready", &[]), 1.0);
        assert_eq!(metrics.value("tws_requests_total", &[]), requests_sent);
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use serde_json::json;

    use super::*;
    use crate::support::postgres::Postgres;
    use crate::users::{CreateUserLoad, assert_all_exist, post, value};

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn postgres_users_are_shared_and_survive_instance_kill() {
        let postgres = Postgres::start();
        let users = format!("--users={}", postgres.url(&postgres.new_database()));
        let mut instances = start_instances(ModificationTimes::Kept, &[&users]);
        for (at, maker) in instances.iter().enumerate() {
            let content = json!({ "Nombre": format!("Ana {at}") }).to_string();
            let made = post(&mut Client::connect(maker.address), &content);
            assert_eq!(made.status, 201);
            let location = made.field("Location").expect("Location field").to_owned();
            for instance in &instances {
                let found = Client::connect(instance.address).get(&location);
                assert_eq!(value(&found), value(&made));
            }
        }
        let mut loads = instances
            .each_ref()
            .map(|instance| CreateUserLoad::on(instance.address))
            .into_iter();
        let (doomed, others) = (loads.next().expect("first load"), loads);
        let mut created = doomed.answers(200);
        instances[0].process.signal(Signal::KILL);
        created.extend(doomed.end());
        for load in others {
            // The other instances are not affected.
            created.extend(load.answers(200));
            created.extend(load.end());
        }
        for instance in &instances[1..] {
            let mut client = Client::connect(instance.address);
            assert_all_exist(created.clone(), &mut client);
        }
        let _ = instances[0].process.child.wait();
        instances[0].start_again();
        assert_all_exist(created, &mut Client::connect(instances[0].address));
    }
}

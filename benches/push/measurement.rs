//! Sends events in rounds and prints when they have arrived.

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::Result;
use crate::clients::{END, READ};

/// Longer than a round takes. The clients, which share the processors of the server, begin to read only then:
/// the kernel has recorded when the bytes arrived. A sleep, because any other wait would use a processor.
const ROUND_TIME: Duration = Duration::from_millis(400);

/// Clients that are connected.
pub(crate) struct Measurement {
    clients: ClientProcess,
    /// The resident memory before they connected.
    resident_before: u64,
}

/// An event for all clients.
struct Round {
    /// Until half of the clients have it.
    median: Duration,
    /// Until the last client has it.
    last: Duration,
    /// Until the call that sends it has returned.
    call: Duration,
    /// The processor time of all threads of this process.
    processor: Duration,
}

impl Measurement {
    /// Connects `clients` clients to a server in this process.
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Result<Self> {
        let resident_before = resident_kib()?;
        let clients = ClientProcess::start(address, clients)?;
        Ok(Self {
            clients,
            resident_before,
        })
    }

    /// Calls `send` with the number of each round, and prints what was measured.
    pub(crate) fn run(mut self, rounds: usize, send: impl Fn(usize)) -> Result<ClientProcess> {
        let connected = resident_kib()?;
        let rounds: Result<Vec<Round>> = (0..rounds)
            .map(|round| self.round(|| send(round)))
            .collect();
        let rounds = rounds?;
        print("half of the clients", &rounds, |round| round.median);
        print("the last client", &rounds, |round| round.last);
        print("the call returns", &rounds, |round| round.call);
        print("processor time", &rounds, |round| round.processor);
        let (before, after) = (self.resident_before, resident_kib()?);
        println!(
            "  resident memory:       {before} KiB without clients, {connected} KiB with them, {after} KiB after the events"
        );
        Ok(self.clients)
    }

    fn round(&mut self, send: impl FnOnce()) -> Result<Round> {
        let processor = processor_time()?;
        let (start, start_of_clock) = (Instant::now(), clock()?);
        send();
        let call = start.elapsed();
        thread::sleep(ROUND_TIME);
        let processor = processor_time()? - processor;
        let arrivals = self.clients.arrivals(READ)?;
        let [median, last] = arrivals.map(|arrival| arrival.saturating_sub(start_of_clock));
        Ok(Round {
            median,
            last,
            call,
            processor,
        })
    }
}

/// Prints a time: the median and the worst of the rounds, and that of each round.
fn print(name: &str, rounds: &[Round], time: impl Fn(&Round) -> Duration) {
    let millis = |round| time(round).as_secs_f64() * 1e3;
    let each: Vec<f64> = rounds.iter().map(millis).collect();
    let mut sorted = each.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let (median, worst) = (sorted[rounds.len() / 2], sorted[rounds.len() - 1]);
    let each: Vec<String> = each.iter().map(|millis| format!("{millis:.0}")).collect();
    let (name, each) = (format!("{name}:"), each.join(" "));
    println!("  {name:<22} median {median:.1} ms, worst {worst:.1} ms ({each})");
}

/// The process of the clients.
pub(crate) struct ClientProcess {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl ClientProcess {
    fn start(address: SocketAddr, clients: usize) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["clients", &address.to_string(), &clients.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("no input")?;
        let output = process.stdout.take().ok_or("no output")?;
        let output = BufReader::new(output).lines();
        let mut clients = Self {
            process,
            input,
            output,
        };
        clients.line()?;
        Ok(clients)
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.output.next().ok_or("the clients have ended")??)
    }

    /// Returns when the median and the last client have received something.
    fn arrivals(&mut self, command: &str) -> Result<[Duration; 2]> {
        writeln!(self.input, "{command}")?;
        let line = self.line()?;
        let (median, last) = line.split_once(' ').ok_or("not two times")?;
        Ok([
            Duration::from_nanos(median.parse()?),
            Duration::from_nanos(last.parse()?),
        ])
    }

    /// Calls `end`, which ends all streams, and returns the time until the last one has ended.
    pub(crate) fn end(mut self, end: impl FnOnce()) -> Result<Duration> {
        let start = clock()?;
        end();
        thread::sleep(ROUND_TIME);
        let [_, last] = self.arrivals(END)?;
        drop(self.input);
        self.process.wait()?;
        Ok(last.saturating_sub(start))
    }
}

/// Returns the time of the clock with which the kernel records arrivals, since the Unix epoch.
fn clock() -> Result<Duration> {
    Ok(SystemTime::UNIX_EPOCH.elapsed()?)
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}

/// Returns the processor time that the threads of this process have used.
fn processor_time() -> Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let running: u64 = stat.split(' ').next().ok_or("no schedstat")?.parse()?;
        nanos += running;
    }
    Ok(Duration::from_nanos(nanos))
}

//! Side by side: tws and whichever of nginx, lighttpd, h2o and Caddy are installed, each in its
//! strongest configuration, do the same work on one core while a client on another drives them.
//!
//! ```sh
//! cargo bench --bench comparison                       # all of it, about a quarter of an hour
//! cargo bench --bench comparison -- --quick            # to see that it runs; not to be quoted
//! cargo bench --bench comparison -- --only 1-KiB --write .readme
//! ```
//!
//! The method. What is compared is the server's CPU time per request, all its threads, because on
//! two cores the client is often what limits requests per second. Every measurement of a peer
//! stands beside one of ours, which comes first in one round and second in the next; what is
//! quoted is the median of the ratios (ours / theirs, less is better) with the least and the
//! greatest. A second tws is measured like a peer: how far its line is from 1.00 is the noise.
//! Before a work is measured, status and content are compared; who answers otherwise is left out
//! with the reason.
//!
//! Top-down: [`works`] says what is measured and the bars, [`contest`] pairs, [`servers`] starts,
//! [`wrk`], [`client`] and [`children`] drive, [`report`] and [`plots`] tell.

mod arguments;
mod cleanup;
mod client;
mod environment;
mod pairs;
mod plots;
mod process;
mod report;
mod servers;
mod site;
mod slow_disk;
mod statistics;
mod subprocess;
mod works;
mod wrk;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::Arguments;
use works::Outcome;

/// What goes wrong is told in words; nothing here recovers from the kind of an error.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(child) = subprocess::named_by(&args) {
        return done(child.and_then(subprocess::Child::run));
    }
    // `cargo test --all-targets` runs benches too, but without this flag.
    if !args.iter().any(|arg| arg == "--bench") {
        println!("comparison measures only when asked: cargo bench --bench comparison");
        return ExitCode::SUCCESS;
    }
    statistics::assert_true();
    let arguments = Arguments::parse();
    done(cleanup::on_signals().and_then(|()| run(&arguments)))
}

fn done(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("comparison: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let plan = arguments.plan();
    let works = works::named(&arguments.names());
    if works.is_empty() {
        println!(
            "comparison: no work has such a name; there are: {}",
            works::names()
        );
        return Ok(());
    }
    process::raise_descriptor_limit();
    let facts = environment::gather()?;
    println!("{}", facts.text());
    let duration = plan.announcement(works.len());
    println!("{} works, {duration}. {}\n", works.len(), plan.worth());
    let bench = works::Bench::new(plan, &facts)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for work in works {
        let started = Instant::now();
        eprintln!("# {} …", work.name);
        let measured = work.measure(&bench);
        eprintln!("#   {:.0} s", started.elapsed().as_secs_f64());
        for outcome in measured {
            print!("{}", report::lines(&outcome));
            outcomes.push(outcome);
        }
    }
    println!("\n{}", report::legend(plan));
    match &arguments.write {
        Some(folder) => write(folder, arguments, &facts, &outcomes),
        None => Ok(()),
    }
}

fn write(
    folder: &Path,
    arguments: &Arguments,
    facts: &environment::Facts,
    outcomes: &[Outcome],
) -> Result<()> {
    let save = |name: &str, text: Option<String>| match text {
        Some(text) => {
            let path = folder.join(name);
            println!("wrote {}", path.display());
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => Ok(()),
    };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let command = arguments.command_line();
    save(
        "comparison.md",
        Some(report::markdown(
            &command,
            arguments.plan(),
            facts,
            outcomes,
        )),
    )?;
    save("comparison-cpu.svg", plots::cpu(outcomes)?)?;
    save("comparison-latency.svg", plots::latency(outcomes)?)
}

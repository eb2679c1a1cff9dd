//! Compares tws with those of nginx, lighttpd, h2o and Caddy that are installed. Each server runs
//! in its strongest configuration on one core; a load generator on another core sends the same
//! requests to each.
//!
//! ```sh
//! cargo bench --bench comparison                       # all workloads, about 25 minutes
//! cargo bench --bench comparison -- --quick            # smoke test; figures are not significant
//! cargo bench --bench comparison -- --only 1-KiB --write .readme
//! ```
//!
//! Method: the main metric is the server's CPU time per request, summed over all its threads,
//! because with two cores the client is often what limits requests per second. Measurements come
//! in pairs, one of tws and one of another server directly after each other; the order alternates
//! from round to round. The reported value is the median of the ratios (tws / other server, lower
//! is better for tws) with the smallest and the greatest ratio. A second tws is measured like any
//! other server: the distance of its ratios from 1.00 is the noise. Before a workload is measured,
//! the status and the content of each server's response are checked; a server that responds
//! differently is left out with the reason.
//!
//! Structure: [`workloads`] defines what is measured and the targets, [`pairs`] measures in pairs,
//! [`servers`] starts the servers, [`wrk`], [`h2load`], [`client`], [`tls_client`], [`http2_client`]
//! and [`subprocess`] generate load, [`report`] and [`plots`] present the results.

mod arguments;
mod certificate;
mod cleanup;
mod client;
mod environment;
mod h2load;
mod http2_client;
mod pairs;
mod plots;
mod process;
mod programs;
mod report;
mod servers;
mod slow_disk;
mod statistics;
mod subprocess;
mod test_files;
mod tls_client;
mod workloads;
mod wrk;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use arguments::Arguments;
use environment::Environment;
use subprocess::Subprocess;
use workloads::context::BenchContext;
use workloads::result::MetricResult;

/// Errors are messages for the report; no code distinguishes between them.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(subprocess) = Subprocess::parse(&args) {
        return exit_code(subprocess.and_then(Subprocess::run));
    }
    // `cargo test --all-targets` runs benches too, but without this flag.
    if !args.iter().any(|arg| arg == "--bench") {
        println!("comparison measures only under `cargo bench --bench comparison`");
        return ExitCode::SUCCESS;
    }
    statistics::self_test();
    let arguments = Arguments::parse();
    exit_code(cleanup::on_signals().and_then(|()| run(&arguments)))
}

fn exit_code(result: Result<()>) -> ExitCode {
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
    let workloads = workloads::matching(&arguments.names());
    if workloads.is_empty() {
        println!(
            "comparison: no workload matches; available workloads: {}",
            workloads::names()
        );
        return Ok(());
    }
    process::raise_descriptor_limit();
    let environment = Environment::detect()?;
    println!("{}", environment.text());
    println!(
        "{} workloads, {}. {}\n",
        workloads.len(),
        plan.estimate(workloads.len()),
        plan.significance()
    );
    let context = BenchContext::new(plan, &environment)?;
    let mut results: Vec<MetricResult> = Vec::new();
    for workload in workloads {
        let started = Instant::now();
        eprintln!("# {} …", workload.name);
        let measured = workload.measure(&context);
        eprintln!("#   {:.0} s", started.elapsed().as_secs_f64());
        for result in measured {
            print!("{}", report::lines(&result));
            results.push(result);
        }
    }
    println!("\n{}", report::legend(plan));
    match &arguments.write {
        Some(directory) => write(directory, arguments, &environment, &results),
        None => Ok(()),
    }
}

fn write(
    directory: &Path,
    arguments: &Arguments,
    environment: &Environment,
    results: &[MetricResult],
) -> Result<()> {
    let save = |name: &str, text: Option<String>| match text {
        Some(text) => {
            let path = directory.join(name);
            println!("wrote {}", path.display());
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => Ok(()),
    };
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let command = arguments.command_line();
    let plan = arguments.plan();
    save(
        "comparison.md",
        Some(report::markdown(&command, plan, environment, results)),
    )?;
    let readme = directory.join("../README.md");
    if readme.exists() {
        report::update_readme(&readme, environment, results)?;
        println!("wrote {}", readme.display());
    }
    save("comparison-cpu.svg", plots::cpu(results)?)?;
    save("comparison-latency.svg", plots::latency(results)?)?;
    save("comparison-stylesheet.svg", plots::stylesheet(results)?)
}

//! The view of `--tui`: the rates of the last minutes, each transfer with its progress, and the
//! diagnostics, which would disturb the view if they were written to the terminal.
//!
//! The samples are those of the admin listener's page, taken in this process. The terminal is restored
//! however the view ends: by `q`, by a signal, by an error or by a panic.

use std::collections::VecDeque;
use std::io::{self, Stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, LineGauge, Paragraph, Sparkline};
use ratatui::{Frame, Terminal};
use tws::ServerState;
use tws::admin::{Limit, Sample, Sampler, TransferSample};

use super::stderr_log::LogTail;
use crate::sync::Mutex;

/// Interval at which keys, samples and log lines are checked.
const TICK: Duration = Duration::from_millis(100);

/// How long the end of the view waits for a terminal that accepts no output.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Number of samples, one per second, that are kept: more than a terminal has columns.
const MAX_HISTORY: usize = 1000;

/// Height of the diagnostics with their frame, in rows.
const LOG_ROWS: u16 = 7;

type Screen = Terminal<CrosstermBackend<Stdout>>;

/// The terminal while the view has it. It is taken out of here before it is restored, so that nothing is
/// drawn afterwards.
static SCREEN: Mutex<Option<Screen>> = Mutex::new(None);

/// The view. Dropping it restores the terminal.
pub(crate) struct Tui {
    stop: Arc<AtomicBool>,
    /// Disconnected when the thread that draws has ended.
    drawing: Option<Receiver<()>>,
    log: LogTail,
}

impl Tui {
    /// Takes over the terminal and draws on a thread of its own. `quit` is called for each `q` and Ctrl-C,
    /// and when drawing fails.
    pub(crate) fn start(
        title: String,
        sampler: Arc<Sampler>,
        log: &LogTail,
        quit: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        take_terminal()?;
        let mut tui = Self {
            stop: Arc::clone(&stop),
            drawing: None,
            log: log.clone(),
        };
        log.open();
        // The message of a panic that is caught (a handler's) would be written across the view.
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
        let (sender, samples) = mpsc::channel();
        let forward_samples = move || {
            let mut sample = sampler.latest();
            while sender.send(Arc::clone(&sample)).is_ok() && sample.phase != ServerState::Ended {
                sample = sampler.after(sample.number);
            }
        };
        thread::Builder::new()
            .name("tui-samples".to_owned())
            .spawn(forward_samples)?;
        let mut dashboard = Dashboard {
            title,
            log: log.clone(),
            latest: None,
            history: VecDeque::new(),
        };
        let (ended, drawing) = mpsc::channel::<()>();
        let log = log.clone();
        let draw = move || {
            let _until_the_end = ended;
            let show = AssertUnwindSafe(|| dashboard.show(&samples, &stop, &quit));
            let failure = match catch_unwind(show) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a panic".to_owned(),
            };
            // Without the view no key can end the server.
            restore_terminal();
            log.close();
            log::error!("tui: cannot draw on the terminal: {failure}");
            quit();
        };
        thread::Builder::new().name("tui".to_owned()).spawn(draw)?;
        tui.drawing = Some(drawing);
        Ok(tui)
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(drawing) = self.drawing.take() {
            let _ = drawing.recv_timeout(RESTORE_TIMEOUT);
        }
        restore_terminal();
        self.log.close();
    }
}

fn take_terminal() -> io::Result<()> {
    *SCREEN.lock() = Some(Terminal::new(CrosstermBackend::new(io::stdout()))?);
    let taken = enable_raw_mode().and_then(|()| execute!(io::stdout(), EnterAlternateScreen));
    if taken.is_err() {
        restore_terminal();
    }
    taken
}

/// Restores the terminal if the view has it. Must also be called before the process exits at once.
pub(crate) fn restore_terminal() {
    let (ended, restored) = mpsc::channel::<()>();
    let restore = move || {
        let _until_the_end = ended;
        // Errors cannot be reported: the terminal is where they would go.
        let _ = disable_raw_mode();
        if let Some(terminal) = SCREEN.lock().take() {
            drop(terminal);
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        }
    };
    if thread::Builder::new().spawn(restore).is_ok() {
        let _ = restored.recv_timeout(RESTORE_TIMEOUT);
    }
}

/// The content of the view.
struct Dashboard {
    title: String,
    log: LogTail,
    latest: Option<Arc<Sample>>,
    history: VecDeque<HistoryPoint>,
}

/// The numbers of one second; times in microseconds.
#[derive(Clone, Copy, Default)]
struct HistoryPoint {
    requests: Option<u64>,
    p99: Option<u64>,
    lag: Option<u64>,
}

impl HistoryPoint {
    fn new(sample: &Sample) -> Self {
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        let longest = sample
            .workers
            .iter()
            .map(|worker| worker.lag)
            .fold(0.0, f64::max);
        Self {
            requests: sample.rates.map(|rates| rates.requests as u64),
            p99: sample.rates.and_then(|rates| rates.p99).map(micros),
            // The first sample covers a longer time than a second.
            lag: sample.rates.map(|_| micros(longest)),
        }
    }
}

impl Dashboard {
    fn show(
        &mut self,
        samples: &Receiver<Arc<Sample>>,
        stop: &AtomicBool,
        quit: &impl Fn(),
    ) -> io::Result<()> {
        let mut drawn_lines = None;
        let mut is_changed = true;
        while !stop.load(Ordering::Acquire) {
            for sample in samples.try_iter() {
                self.add(sample);
                is_changed = true;
            }
            let lines = self.log.count();
            if is_changed || drawn_lines != Some(lines) {
                let mut screen = SCREEN.lock();
                let Some(terminal) = screen.as_mut() else {
                    break;
                };
                // Adapts to the size of the terminal if that has changed.
                terminal.draw(|frame| self.draw(frame))?;
                drawn_lines = Some(lines);
            }
            is_changed = event::poll(TICK)?;
            if is_changed
                && let Event::Key(key) = event::read()?
                && is_quit(key)
            {
                quit();
            }
        }
        Ok(())
    }

    fn add(&mut self, sample: Arc<Sample>) {
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(HistoryPoint::new(&sample));
        self.latest = Some(sample);
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [head, plots, transfers, log] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Percentage(25),
            Constraint::Min(4),
            Constraint::Max(LOG_ROWS),
        ])
        .areas(frame.area());
        self.draw_head(frame, head);
        self.draw_plots(frame, plots);
        self.draw_transfers(frame, transfers);
        self.draw_log(frame, log);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let phase = self
            .latest
            .as_ref()
            .map_or(ServerState::Bound, |sample| sample.phase);
        let (hint, color) = match phase {
            ServerState::Bound | ServerState::Serving => ("q quits", Color::Green),
            _ => ("finishing responses; q again quits at once", Color::Yellow),
        };
        let line = Line::from(vec![
            Span::from(" tws ").bold().reversed(),
            Span::from(format!(" {}  ", printable(&self.title))),
            Span::from(hint).fg(color),
        ]);
        frame.render_widget(line, area);
    }

    fn draw_plots(&self, frame: &mut Frame<'_>, area: Rect) {
        let thirds = Layout::horizontal([Constraint::Fill(1); 3]).areas::<3>(area);
        let rates = self.latest.as_ref().and_then(|sample| sample.rates);
        let requests = rates.map_or("–".to_owned(), |rates| format!("{:.0}", rates.requests));
        let text = |seconds: Option<f64>| seconds.map_or("–".to_owned(), time);
        let median = text(rates.and_then(|rates| rates.median));
        let p99 = text(rates.and_then(|rates| rates.p99));
        let lags = self.latest.iter().flat_map(|sample| &sample.workers);
        let lags: Vec<String> = lags
            .map(|worker| {
                if worker.answers {
                    time(worker.lag)
                } else {
                    "stuck".to_owned()
                }
            })
            .collect();
        type Value = fn(&HistoryPoint) -> Option<u64>;
        let plots: [(String, Color, Value); 3] = [
            (format!("requests/s {requests}"), Color::Blue, |point| {
                point.requests
            }),
            (
                format!("p99 {p99}, median {median}"),
                Color::Yellow,
                |point| point.p99,
            ),
            (
                format!("loop lag {}", lags.join(" ")),
                Color::Magenta,
                |point| point.lag,
            ),
        ];
        for ((title, color, value), area) in plots.into_iter().zip(thirds) {
            let block = Block::bordered().title(format!(" {title} "));
            let width = usize::from(block.inner(area).width);
            let history = self.history.iter().rev().take(width).rev().map(value);
            // The newest is on the right.
            let missing = width.saturating_sub(self.history.len());
            let bars = std::iter::repeat_n(None, missing).chain(history);
            let plot = Sparkline::default().data(bars.collect::<Vec<_>>());
            frame.render_widget(plot.style(Style::new().fg(color)).block(block), area);
        }
    }

    fn draw_transfers(&self, frame: &mut Frame<'_>, area: Rect) {
        let transfers = self
            .latest
            .as_ref()
            .map_or(&[][..], |sample| &sample.transfers);
        let left_out = self
            .latest
            .as_ref()
            .map_or(0, |sample| sample.transfers_left_out);
        let all = transfers.len() + left_out;
        let block = Block::bordered().title(format!(" transfers: {all} "));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        if all == 0 {
            let text = "No transfers running. Short replies are not listed.";
            frame.render_widget(Line::from(text).dim(), inner);
        }
        for (transfer, row) in transfers.iter().zip(inner.rows()) {
            draw_transfer(frame, row, transfer);
        }
    }

    fn draw_log(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered().title(" diagnostics ");
        let rows = usize::from(block.inner(area).height);
        let lines = self.log.last(rows);
        let lines: Vec<Line<'_>> = lines.iter().map(|line| printable(line).into()).collect();
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

fn draw_transfer(frame: &mut Frame<'_>, row: Rect, transfer: &TransferSample) {
    // In a narrow terminal the name is more important than the bytes and the port.
    let (client, gauge, amount) = match row.width {
        // Fits the longest IPv4 address, without its port.
        0..110 => (15, Constraint::Length(11), Constraint::Length(0)),
        _ => (22, Constraint::Fill(2), Constraint::Length(20)),
    };
    let [client, file, gauge, amount, rate, left, limit] = Layout::horizontal([
        Constraint::Max(client),
        Constraint::Fill(3),
        gauge,
        amount,
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(9),
    ])
    .spacing(1)
    .areas(row);
    let arrow = if transfer.upload { "↑" } else { "↓" };
    let name = format!("{arrow} {}", readable(&transfer.target));
    frame.render_widget(transfer.client.as_str(), client);
    frame.render_widget(Line::from(name).bold(), file);
    let moved = bytes(transfer.moved as f64);
    match transfer.total {
        Some(total) => {
            let ratio = (transfer.moved as f64 / total.max(1) as f64).clamp(0.0, 1.0);
            let bar = LineGauge::default()
                .ratio(ratio)
                .label(format!("{:>3.0} %", (ratio * 100.0).floor()))
                .filled_style(Style::new().fg(Color::Blue))
                .unfilled_style(Style::new().dim());
            frame.render_widget(bar, gauge);
            let text = format!("{moved} of {}", bytes(total as f64));
            frame.render_widget(Line::from(text).right_aligned(), amount);
        }
        None => frame.render_widget(Line::from(moved).right_aligned(), amount),
    }
    let text = format!("{}/s", bytes(transfer.rate));
    frame.render_widget(Line::from(text).right_aligned(), rate);
    let text = transfer.left.map_or("–".to_owned(), clock);
    frame.render_widget(Line::from(text).right_aligned(), left);
    let color = match transfer.limit {
        Limit::Client => Color::Reset,
        Limit::Disk => Color::Yellow,
        Limit::Bandwidth => Color::Cyan,
        _ => Color::Blue,
    };
    frame.render_widget(Line::from(transfer.limit.word()).fg(color), limit);
}

fn is_quit(key: KeyEvent) -> bool {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') => true,
            KeyCode::Char('c') => with_control,
            _ => false,
        }
}

/// Returns the decoded path of a request target, without control characters.
fn readable(target: &str) -> String {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    printable(&decoded.unwrap_or(path.into()))
}

/// Replaces characters that would move the cursor, or change the direction of the text beside them.
fn printable(text: &str) -> String {
    let is_unsafe = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace(is_unsafe, "\u{fffd}")
}

fn bytes(mut value: f64) -> String {
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter().peekable();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0 && units.peek().is_some() {
        value /= 1024.0;
        unit = units.next().unwrap_or_default();
    }
    match unit {
        "B" => format!("{value:.0} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{:.0} µs", seconds * 1e6),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

fn clock(seconds: f64) -> String {
    // The cast saturates.
    let whole = seconds.ceil() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (100.., _, _) => "days".to_owned(),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn dashboard_without_samples_shows_how_to_quit() {
        let dashboard = Dashboard {
            title: "site".to_owned(),
            log: LogTail::default(),
            latest: None,
            history: VecDeque::new(),
        };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
        terminal
            .draw(|frame| dashboard.draw(frame))
            .expect("a frame");
        let screen = terminal.backend().to_string();
        assert!(screen.contains(" tws  site  q quits"), "{screen}");
    }

    #[test]
    fn readable_target_has_no_control_characters() {
        assert_eq!(readable("/a%20b.txt?x"), "/a b.txt");
        assert_eq!(
            readable("/%1b[2J%0a%C2%9b\u{202e}x"),
            "/\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}x"
        );
        assert_eq!(readable("/%ff"), "/%ff");
    }

    #[test]
    fn values_have_the_largest_fitting_unit() {
        assert_eq!(
            ["0 B", "1.5 KiB", "2.0 TiB"],
            [0.0, 1536.0, 2.2e12].map(bytes)
        );
        assert_eq!(["50 µs", "1.5 ms", "2.0 s"], [5e-5, 0.0015, 2.0].map(time));
        assert_eq!(["0:05", "1:00:00", "days"], [4.2, 3600.0, 1e30].map(clock));
    }
}

//! Work that is done once for all requests that wait for its result at the same time.
//!
//! A request takes a [`Ticket`] when it arrives. The first one to enter does the work ([`Run`]); the
//! others wait without a thread until it is done. Its result is for the requests that had their tickets
//! when the work began: a later one could miss a change that was made before it arrived. So for one key
//! at most one run is in progress, and one more follows it, however many requests there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak, mpsc};

use crate::sync::Mutex;

/// The runs of one kind of work, by what it is done for.
#[derive(Debug)]
pub(super) struct SingleFlight<K, V>(Mutex<HashMap<K, Weak<Group<V>>>>);

/// A request's right to the result of a run for its key that begins after this was taken.
#[derive(Debug)]
pub(super) struct Ticket<V> {
    group: Arc<Group<V>>,
    /// Number of the last run that had begun.
    taken_after: u64,
}

/// What a request with a ticket is to do.
#[derive(Debug)]
pub(super) enum Entered<V> {
    /// Nothing: another request has done the work.
    Done(V),
    /// The work.
    Run(Run<V>),
    /// Wait until the run in progress has ended, and enter again.
    Busy(Ticket<V>),
}

/// A run in progress. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Run<V> {
    group: Arc<Group<V>>,
    number: u64,
}

/// The runs for one key. It exists while there is a ticket or a run.
#[derive(Debug)]
struct Group<V>(Mutex<GroupState<V>>);

struct GroupState<V> {
    /// Number of runs that have begun.
    begun: u64,
    is_running: bool,
    /// The last result, and the number of its run.
    last: Option<(u64, V)>,
    /// Called when the run in progress has ended.
    parked: Vec<Retry>,
}

type Retry = Box<dyn FnOnce() + Send>;

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V> SingleFlight<K, V> {
    pub(super) fn ticket(&self, key: K) -> Ticket<V> {
        /// Keys without tickets are removed when there are this many keys.
        const MAX_UNUSED: usize = 64;
        let mut groups = self.0.lock();
        if let Some(group) = groups.get(&key).and_then(Weak::upgrade) {
            let taken_after = group.0.lock().begun;
            return Ticket { group, taken_after };
        }
        if groups.len() >= MAX_UNUSED {
            groups.retain(|_, group| group.strong_count() > 0);
        }
        let group = Arc::new(Group(Mutex::default()));
        groups.insert(key, Arc::downgrade(&group));
        Ticket {
            group,
            taken_after: 0,
        }
    }
}

impl<V: Clone> Ticket<V> {
    pub(super) fn enter(self) -> Entered<V> {
        let mut state = self.group.0.lock();
        if let Some((number, value)) = &state.last
            && *number > self.taken_after
        {
            return Entered::Done(value.clone());
        }
        if state.is_running {
            drop(state);
            return Entered::Busy(self);
        }
        state.is_running = true;
        state.begun += 1;
        let number = state.begun;
        drop(state);
        Entered::Run(Run {
            group: self.group,
            number,
        })
    }
}

impl<V> Ticket<V> {
    /// Calls `retry` with the ticket when the run in progress has ended: on the thread of that run, or
    /// at once if it has ended already.
    pub(super) fn park(self, retry: impl FnOnce(Self) + Send + 'static)
    where
        V: Send + 'static,
    {
        let group = Arc::clone(&self.group);
        let mut state = group.0.lock();
        if state.is_running {
            state.parked.push(Box::new(move || retry(self)));
        } else {
            drop(state);
            retry(self);
        }
    }
}

impl<V: Send + 'static> Ticket<V> {
    /// Blocks until the run in progress has ended.
    pub(super) fn wait(self) {
        let (sender, ended) = mpsc::channel::<()>();
        self.park(move |_| drop(sender));
        // The error is what it waits for.
        let _ = ended.recv();
    }
}

impl<V> Run<V> {
    /// Ends the run with a result for all that wait for it.
    pub(super) fn finish(self, value: V) {
        self.group.0.lock().last = Some((self.number, value));
    }
}

impl<V> Drop for Run<V> {
    fn drop(&mut self) {
        let mut state = self.group.0.lock();
        state.is_running = false;
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        parked.into_iter().for_each(|retry| retry());
    }
}

impl<V> Default for GroupState<V> {
    fn default() -> Self {
        Self {
            begun: 0,
            is_running: false,
            last: None,
            parked: Vec::new(),
        }
    }
}

impl<V> std::fmt::Debug for GroupState<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupState")
            .field("begun", &self.begun)
            .field("is_running", &self.is_running)
            .field("parked", &self.parked.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<V: Clone>(ticket: Ticket<V>) -> Run<V> {
        match ticket.enter() {
            Entered::Run(run) => run,
            Entered::Done(_) | Entered::Busy(_) => panic!("no run"),
        }
    }

    fn done<V: Clone>(ticket: Ticket<V>) -> V {
        match ticket.enter() {
            Entered::Done(value) => value,
            Entered::Run(_) | Entered::Busy(_) => panic!("no result"),
        }
    }

    fn busy<V: Clone>(ticket: Ticket<V>) -> Ticket<V> {
        match ticket.enter() {
            Entered::Busy(ticket) => ticket,
            Entered::Done(_) | Entered::Run(_) => panic!("not busy"),
        }
    }

    #[test]
    fn result_is_shared_by_tickets_taken_before_its_run() {
        let flights = SingleFlight::default();
        let [first, second, third] = ["a"; 3].map(|key| flights.ticket(key));
        let one = run(first);
        let late = flights.ticket("a");
        let second = busy(second);
        let late = busy(late);
        one.finish(1);
        assert_eq!((done(second), done(third)), (1, 1));
        // What it waits for may have changed before it arrived.
        let two = run(late);
        let [later, other] = ["a", "b"].map(|key| flights.ticket(key));
        two.finish(2);
        run(later).finish(3);
        run(other).finish(4);
    }

    #[test]
    fn parked_tickets_enter_again_when_the_run_ends() {
        let flights = SingleFlight::<_, u8>::default();
        let (sender, retries) = mpsc::channel();
        let park = |ticket: Ticket<u8>| {
            let sender = sender.clone();
            ticket.park(move |ticket| sender.send(ticket).expect("the test waits"));
        };
        let [first, second, third] = [(); 3].map(|()| flights.ticket("a"));
        let failing = run(first);
        park(busy(second));
        assert!(retries.try_recv().is_err());
        // As if the work had panicked.
        drop(failing);
        run(retries.try_recv().expect("the second")).finish(2);
        park(third);
        assert_eq!(done(retries.try_recv().expect("at once")), 2);
    }

    #[test]
    fn keys_without_tickets_are_forgotten() {
        let flights = SingleFlight::default();
        let kept = flights.ticket(0);
        for key in 1..1000 {
            run(flights.ticket(key)).finish(());
        }
        assert!(flights.0.lock().len() < 100);
        run(kept).finish(());
    }
}

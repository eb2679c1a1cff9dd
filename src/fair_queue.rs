//! A bounded queue that serves its clients in turn, a few items of each at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A queue of items, each of one client. Clients are served round-robin, and of each client a few items
/// at most are being served: a client with many items delays the others by one item at most, and never
/// occupies all threads.
#[derive(Debug)]
pub(crate) struct FairQueue<K, T> {
    clients: HashMap<K, ClientItems<T>>,
    /// The clients with an item that may be served next, in the order in which they are served.
    turns: VecDeque<K>,
    limits: QueueLimits,
    /// Items that wait and may be rejected.
    waiting: usize,
    /// Items that wait and cannot be rejected.
    required: usize,
    served: usize,
}

/// The limits of a [`FairQueue`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// Items that wait or are being served.
    pub(crate) max: usize,
    /// The same, of one client.
    pub(crate) max_per_client: usize,
    /// Items of one client that are being served.
    pub(crate) max_served_per_client: usize,
}

#[derive(Debug)]
struct ClientItems<T> {
    /// Items that cannot be rejected. They come before the others.
    required: VecDeque<T>,
    waiting: VecDeque<T>,
    served: usize,
    /// Whether the client is among the turns.
    has_turn: bool,
}

impl<T> ClientItems<T> {
    fn has_waiting(&self) -> bool {
        !self.required.is_empty() || !self.waiting.is_empty()
    }
}

impl<T> Default for ClientItems<T> {
    fn default() -> Self {
        Self {
            required: VecDeque::new(),
            waiting: VecDeque::new(),
            served: 0,
            has_turn: false,
        }
    }
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        Self {
            clients: HashMap::new(),
            turns: VecDeque::new(),
            limits,
            waiting: 0,
            required: 0,
            served: 0,
        }
    }

    /// Returns whether [`push`](Self::push) rejects an item, its own or another one.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting + self.served >= self.limits.max
    }

    /// Returns how many items wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting + self.required
    }

    /// Returns how many items are being served.
    pub(crate) fn served(&self) -> usize {
        self.served
    }

    /// Adds an item of a client. Returns the item that has no room: this one, or, if the queue is full,
    /// the newest of the client with the most items, if that has more than this client.
    pub(crate) fn push(&mut self, client: K, item: T) -> Option<T> {
        let count = self.count(client);
        if count >= self.limits.max_per_client {
            return Some(item);
        }
        let mut evicted = None;
        if self.is_full() {
            let by_count = |items: &&mut ClientItems<T>| items.waiting.len();
            match self.clients.values_mut().max_by_key(by_count) {
                Some(most) if most.waiting.len() > count + 1 => evicted = most.waiting.pop_back(),
                _ => return Some(item),
            }
            self.waiting -= 1;
        }
        let items = self.clients.entry(client).or_default();
        items.waiting.push_back(item);
        self.waiting += 1;
        self.give_turn(client);
        evicted
    }

    /// Adds an item that cannot be rejected any more, whatever the limits. It is served before the
    /// client's other items.
    pub(crate) fn push_required(&mut self, client: K, item: T) {
        let items = self.clients.entry(client).or_default();
        items.required.push_back(item);
        self.required += 1;
        self.give_turn(client);
    }

    /// Returns whether [`pop`](Self::pop) returns an item.
    #[cfg(any(feature = "auth", test))]
    pub(crate) fn has_next(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Takes the next item. It is being served until [`finish`](Self::finish) is called.
    pub(crate) fn pop(&mut self) -> Option<(K, T)> {
        let client = self.turns.pop_front()?;
        let items = self.clients.get_mut(&client)?;
        items.has_turn = false;
        let item = match items.required.pop_front() {
            Some(item) => {
                self.required -= 1;
                item
            }
            None => {
                let item = items.waiting.pop_front()?;
                self.waiting -= 1;
                item
            }
        };
        items.served += 1;
        self.served += 1;
        self.give_turn(client);
        Some((client, item))
    }

    /// Tells that an item of the client is served.
    pub(crate) fn finish(&mut self, client: K) {
        let Some(items) = self.clients.get_mut(&client) else {
            return;
        };
        items.served -= 1;
        self.served -= 1;
        if items.served == 0 && !items.has_waiting() {
            self.clients.remove(&client);
        } else {
            self.give_turn(client);
        }
    }

    /// Takes the waiting items for which `is_taken` returns true.
    pub(crate) fn take_if(&mut self, is_taken: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for items in self.clients.values_mut() {
            self.required -= move_if(&mut items.required, &mut taken, &is_taken);
            self.waiting -= move_if(&mut items.waiting, &mut taken, &is_taken);
            items.has_turn &= items.has_waiting();
        }
        let clients = &self.clients;
        self.turns.retain(|client| clients[client].has_turn);
        self.clients
            .retain(|_, items| items.served > 0 || items.has_waiting());
        taken
    }

    /// Puts the client at the end of the turns, if it has an item that may be served next.
    fn give_turn(&mut self, client: K) {
        let Some(items) = self.clients.get_mut(&client) else {
            return;
        };
        let may_have_turn = items.has_waiting() && items.served < self.limits.max_served_per_client;
        if may_have_turn && !items.has_turn {
            items.has_turn = true;
            self.turns.push_back(client);
        }
    }

    fn count(&self, client: K) -> usize {
        let items = self.clients.get(&client);
        items.map_or(0, |items| items.waiting.len() + items.served)
    }
}

/// Moves the items for which `is_moved` returns true, and returns their number.
fn move_if<T>(from: &mut VecDeque<T>, to: &mut Vec<T>, is_moved: impl Fn(&T) -> bool) -> usize {
    let before = to.len();
    for item in std::mem::take(from) {
        if is_moved(&item) {
            to.push(item);
        } else {
            from.push_back(item);
        }
    }
    to.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max: usize, max_per_client: usize, served: usize) -> FairQueue<char, i32> {
        FairQueue::new(QueueLimits {
            max,
            max_per_client,
            max_served_per_client: served,
        })
    }

    fn is_empty(queue: &FairQueue<char, i32>) -> bool {
        queue.clients.is_empty() && queue.turns.is_empty() && queue.waiting() + queue.served() == 0
    }

    #[test]
    fn clients_are_served_in_turn_one_item_each() {
        let mut queue = queue(100, 100, 1);
        for item in 1..=3 {
            assert_eq!(queue.push('a', item), None);
        }
        assert_eq!(queue.push('b', 10), None);
        assert_eq!(queue.pop(), Some(('a', 1)));
        assert_eq!(queue.pop(), Some(('b', 10)));
        assert_eq!(
            (queue.has_next(), queue.pop()),
            (false, None),
            "one item of each"
        );
        queue.push('c', 20);
        queue.finish('a');
        assert_eq!(queue.pop(), Some(('c', 20)));
        assert_eq!(queue.pop(), Some(('a', 2)));
        queue.finish('b');
        assert_eq!(queue.push('b', 11), None);
        assert_eq!(queue.pop(), Some(('b', 11)));
        queue.finish('a');
        assert_eq!(queue.take_if(|_| true), [3]);
        assert_eq!((queue.has_next(), queue.pop()), (false, None));
        for client in ['b', 'c'] {
            queue.finish(client);
        }
        assert!(is_empty(&queue));
    }

    #[test]
    fn client_has_its_share_and_no_more() {
        let mut queue = queue(100, 100, 2);
        for item in 1..=4 {
            queue.push('a', item);
        }
        queue.push('b', 10);
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken, [('a', 1), ('b', 10), ('a', 2)]);
        assert_eq!((queue.waiting(), queue.served()), (2, 3));
        queue.finish('b');
        assert_eq!(queue.pop(), None);
        queue.finish('a');
        assert_eq!((queue.pop(), queue.pop()), (Some(('a', 3)), None));
    }

    #[test]
    fn required_items_are_first_and_have_no_limit() {
        let mut queue = queue(2, 2, 1);
        for item in 1..=2 {
            assert_eq!(queue.push('a', item), None);
        }
        for item in 10..=12 {
            queue.push_required('a', item);
        }
        queue.push_required('b', 20);
        assert_eq!(queue.waiting(), 6);
        assert_eq!(queue.push('a', 3), Some(3));
        let mut served = Vec::new();
        while let Some((client, item)) = queue.pop() {
            served.push(item);
            queue.finish(client);
        }
        assert_eq!(served, [10, 20, 11, 12, 1, 2]);
        assert!(is_empty(&queue));
    }

    #[test]
    fn full_queue_evicts_from_the_client_with_the_most_items() {
        let mut queue = queue(6, 4, 1);
        let pushed: Vec<_> = (1..=5).map(|item| queue.push('a', item)).collect();
        assert_eq!(pushed, [None, None, None, None, Some(5)]);
        assert_eq!([queue.push('b', 10), queue.push('b', 11)], [None, None]);
        // Full: 4 of a, 2 of b.
        assert_eq!(queue.push('c', 20), Some(4));
        assert_eq!(queue.push('c', 21), Some(3));
        // 2 of each.
        assert_eq!(queue.push('c', 22), Some(22));
        assert_eq!(queue.push('a', 6), Some(6));
        // A newcomer finds room as long as any client has two.
        let evicted = ['d', 'e', 'f'].map(|client| queue.push(client, 30));
        assert!(
            evicted
                .iter()
                .all(|item| item.is_some_and(|item| item != 30))
        );
        assert_eq!(queue.push('g', 30), Some(30));
        assert_eq!(queue.waiting(), 6);
    }

    #[test]
    fn taken_items_make_room() {
        let mut queue = queue(3, 3, 1);
        for (client, item) in [('a', 1), ('a', 2), ('b', 3)] {
            assert_eq!(queue.push(client, item), None);
        }
        queue.push_required('b', 4);
        assert!(queue.is_full());
        assert_eq!(queue.pop(), Some(('a', 1)));
        let mut taken = queue.take_if(|item| item % 2 == 0);
        taken.sort_unstable();
        assert_eq!(taken, [2, 4]);
        assert!(!queue.is_full());
        assert_eq!((queue.pop(), queue.pop()), (Some(('b', 3)), None));
        queue.finish('a');
        queue.finish('b');
        assert!(is_empty(&queue));
    }
}

//! A bounded queue that serves its clients in turn, one item of each at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A queue of items, each of one client. Clients are served round-robin, and of each client at most one
/// item is being served: a client with many items delays the others by one item at most, and never
/// occupies more than one thread.
#[derive(Debug)]
pub(crate) struct FairQueue<K, T> {
    clients: HashMap<K, ClientItems<T>>,
    /// The clients with items of which none is being served, in the order in which they are served.
    turns: VecDeque<K>,
    /// Items that wait.
    waiting: usize,
    max: usize,
    max_per_client: usize,
}

#[derive(Debug)]
struct ClientItems<T> {
    waiting: VecDeque<T>,
    is_served: bool,
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    /// Creates a queue in which at most `max` items wait, `max_per_client` of each client.
    pub(crate) fn new(max: usize, max_per_client: usize) -> Self {
        Self {
            clients: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            max,
            max_per_client,
        }
    }

    /// Adds an item of a client. Returns the item that has no room: this one, or, if the queue is full,
    /// the newest of the client with the most items, if that has more than this client.
    pub(crate) fn push(&mut self, client: K, item: T) -> Option<T> {
        let count = self.count(client);
        if count >= self.max_per_client {
            return Some(item);
        }
        let mut evicted = None;
        if self.waiting >= self.max {
            let by_count = |items: &&mut ClientItems<T>| items.waiting.len();
            match self.clients.values_mut().max_by_key(by_count) {
                Some(most) if most.waiting.len() > count + 1 => evicted = most.waiting.pop_back(),
                _ => return Some(item),
            }
            self.waiting -= 1;
        }
        let items = self.clients.entry(client).or_insert(ClientItems {
            waiting: VecDeque::new(),
            is_served: false,
        });
        if items.waiting.is_empty() && !items.is_served {
            self.turns.push_back(client);
        }
        items.waiting.push_back(item);
        self.waiting += 1;
        evicted
    }

    /// Returns whether [`pop`](Self::pop) returns an item.
    pub(crate) fn has_next(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Takes the next item. The client's next one waits until [`finish`](Self::finish) is called.
    pub(crate) fn pop(&mut self) -> Option<(K, T)> {
        let client = self.turns.pop_front()?;
        let items = self.clients.get_mut(&client)?;
        let item = items.waiting.pop_front()?;
        items.is_served = true;
        self.waiting -= 1;
        Some((client, item))
    }

    /// Tells that the client's item is served.
    pub(crate) fn finish(&mut self, client: K) {
        let Some(items) = self.clients.get_mut(&client) else {
            return;
        };
        items.is_served = false;
        if items.waiting.is_empty() {
            self.clients.remove(&client);
        } else {
            self.turns.push_back(client);
        }
    }

    /// Takes all items that wait.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.turns.clear();
        self.waiting = 0;
        let clients = self.clients.values_mut();
        let items = clients.flat_map(|items| std::mem::take(&mut items.waiting));
        let items = items.collect();
        self.clients.retain(|_, items| items.is_served);
        items
    }

    fn count(&self, client: K) -> usize {
        self.clients
            .get(&client)
            .map_or(0, |items| items.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_served_in_turn_one_item_each() {
        let mut queue = FairQueue::new(100, 100);
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
        assert_eq!(queue.take_all(), [3]);
        assert_eq!((queue.has_next(), queue.pop()), (false, None));
        for client in ['a', 'b', 'c'] {
            queue.finish(client);
        }
        assert!(queue.clients.is_empty());
    }

    #[test]
    fn full_queue_evicts_from_the_client_with_the_most_items() {
        let mut queue = FairQueue::new(6, 4);
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
        assert_eq!(queue.waiting, 6);
    }
}

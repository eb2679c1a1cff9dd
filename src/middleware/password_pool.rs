//! Passwords are verified on purpose slowly, so never on an event loop, and never so many at once
//! that nothing else is done: on threads of their own, of which there are few.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lru::LruCache;
use rustix::rand::{GetRandomFlags, getrandom};

use super::credentials::Credentials;

/// Verifications at once. One takes some 50 ms of a processor, so these are 40 in a second, and
/// the helper threads stay free for files.
const MAX_AT_ONCE: usize = 2;

/// Requests that wait for one; more are told 503. A browser opens six connections.
const MAX_WAITING: usize = 64;

/// Users whose passwords are remembered, as keyed hashes; those who were not here for the longest
/// time are verified anew.
const MAX_REMEMBERED: usize = 1024;

/// A user name and a password that have come, right or wrong.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// What becomes of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many wait for a verdict.
    Busy,
}

type Then = Box<dyn FnOnce(Verdict) + Send>;

pub(super) struct Verifier {
    credentials: Credentials,
    /// Of this process alone: whoever reads its memory cannot look hashes up in a table, and
    /// whoever sends logins cannot choose where they lie in one.
    key: Option<[u8; 32]>,
    remembered: Mutex<LruCache<blake3::Hash, ()>>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Login, Then)>,
    at_once: usize,
}

impl Verifier {
    pub(super) fn new(credentials: Credentials) -> Self {
        let capacity = NonZeroUsize::new(MAX_REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self {
            credentials,
            key: random_key(),
            remembered: Mutex::new(LruCache::new(capacity)),
            queue: Mutex::default(),
        }
    }

    /// True if the login is known to be right. It takes no time to speak of.
    pub(super) fn remembers(&self, login: &Login) -> bool {
        let tag = self.tag(login);
        // Tags are compared in constant time.
        tag.is_some_and(|tag| lock(&self.remembered).get(&tag).is_some())
    }

    /// Finds out whether a login is right and calls `then` with the verdict: on a thread that is
    /// `then`'s alone, unless that is [`Verdict::Busy`].
    pub(super) fn verify(self: &Arc<Self>, login: Login, then: Then) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= MAX_WAITING {
            drop(queue);
            return then(Verdict::Busy);
        }
        queue.waiting.push_back((login, then));
        if queue.at_once < MAX_AT_ONCE {
            queue.at_once += 1;
            drop(queue);
            self.start();
        }
    }

    /// Starts a thread for one login: next to what a verification takes, that is nothing, and
    /// `then` may keep it. The thread is counted already.
    fn start(self: &Arc<Self>) {
        let verifier = Arc::clone(self);
        let thread = thread::Builder::new().name("verifier".to_owned());
        if let Err(error) = thread.spawn(move || verifier.work()) {
            log::error!("passwords: cannot start a verification thread: {error}");
            let mut queue = lock(&self.queue);
            queue.at_once -= 1;
            let abandoned = std::mem::take(&mut queue.waiting);
            drop(queue);
            abandoned
                .into_iter()
                .for_each(|(_, then)| then(Verdict::Busy));
        }
    }

    fn work(self: &Arc<Self>) {
        let first = lock(&self.queue).waiting.pop_front();
        let judged = first.map(|(login, then)| {
            let judge = AssertUnwindSafe(|| self.judge(&login));
            (catch_unwind(judge).unwrap_or(Verdict::Wrong), then)
        });
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            queue.at_once -= 1;
            drop(queue);
        } else {
            drop(queue);
            self.start();
        }
        if let Some((verdict, then)) = judged {
            then(verdict);
        }
    }

    fn judge(&self, login: &Login) -> Verdict {
        // While this one waited, another may have come with the same password.
        if self.remembers(login) {
            return Verdict::Right;
        }
        if !self.credentials.verify(&login.user, &login.password) {
            return Verdict::Wrong;
        }
        if let Some(tag) = self.tag(login) {
            lock(&self.remembered).put(tag, ());
        }
        Verdict::Right
    }

    fn tag(&self, login: &Login) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(self.key.as_ref()?);
        // A user name has no colon (RFC 7617 §2), so no two logins look alike.
        hasher.update(login.user.as_bytes());
        hasher.update(b":");
        hasher.update(login.password.as_bytes());
        Some(hasher.finalize())
    }
}

/// `None` if the system has no random bytes to give: then nothing is remembered.
fn random_key() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let count = getrandom(&mut key, GetRandomFlags::empty());
    (count == Ok(key.len())).then_some(key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::middleware::credentials::tests::credentials;

    fn login(password: &str) -> Login {
        Login {
            user: "ana".to_owned(),
            password: password.to_owned(),
        }
    }

    fn verdict(verifier: &Arc<Verifier>, password: &str) -> Verdict {
        let (sender, receiver) = mpsc::channel();
        let then = move |verdict| sender.send(verdict).expect("the test waits");
        verifier.verify(login(password), Box::new(then));
        receiver.recv().expect("a verdict")
    }

    #[test]
    fn only_what_was_right_is_remembered() {
        let verifier = Arc::new(Verifier::new(credentials()));
        assert!(!verifier.remembers(&login("secret")));
        assert_eq!(verdict(&verifier, "wrong"), Verdict::Wrong);
        assert_eq!(verdict(&verifier, "secret"), Verdict::Right);
        assert!(verifier.remembers(&login("secret")));
        assert!(!verifier.remembers(&login("wrong")));
        for number in 0..MAX_REMEMBERED {
            let tag = blake3::hash(&number.to_le_bytes());
            lock(&verifier.remembered).put(tag, ());
        }
        assert!(!verifier.remembers(&login("secret")), "there is a bound");
    }

    #[test]
    fn a_flood_is_told_that_it_is_one() {
        let verifier = Arc::new(Verifier::new(credentials()));
        // As if all turns were taken.
        lock(&verifier.queue).at_once = MAX_AT_ONCE;
        let (sender, receiver) = mpsc::channel();
        for _ in 0..MAX_WAITING + 3 {
            let sender = sender.clone();
            let then = move |verdict| sender.send(verdict).expect("the test waits");
            verifier.verify(login("secret"), Box::new(then));
        }
        let busy: Vec<_> = receiver.try_iter().collect();
        assert_eq!(busy, [Verdict::Busy; 3]);
        // One turn given back serves all who wait.
        verifier.work();
        let rest: Vec<_> = receiver.iter().take(MAX_WAITING).collect();
        assert_eq!(rest, [Verdict::Right; MAX_WAITING]);
    }
}

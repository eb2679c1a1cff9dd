//! A pool of threads that verify passwords. Password hashes are slow by design, so they must not run on
//! an event loop, nor on so many threads that they take all processors. Clients get the threads in turn,
//! and those that keep sending wrong passwords get none.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use lru::LruCache;
use rustix::rand::{GetRandomFlags, getrandom};

use super::credentials::Credentials;
use super::rate_limit::{Rate, RateExceeded, RateKey, RateTable};
use crate::client_key::ClientKey;
use crate::fair_queue::{FairQueue, QueueLimits};
use crate::sync::Mutex;

/// Concurrent verifications. One takes about 50 ms of processor time, so the limit is about 40 per
/// second, half of that for one client. The helper threads stay available for files.
const MAX_RUNNING: usize = 2;

/// Requests that may wait for a verification. If more do, those of the clients with the most of them
/// get a 503.
const MAX_WAITING: usize = 256;

/// Requests of one client that wait for a verification or are being verified; further ones get a 503. A browser opens six
/// connections.
const MAX_PER_CLIENT: usize = 64;

/// Wrong passwords of one client: so many at once, as a page with many parts sends them whose password
/// was changed, and one in five seconds. Above that its logins are not verified and get a 429.
pub(super) const FAILURES: Rate = Rate::every(Duration::from_secs(5), 20);

/// The buckets of the table of failures: 8,192 clients in 256 KiB.
const FAILURE_BUCKETS: usize = 512;

/// Logins that are cached as keyed hashes. The least recently used ones are evicted and verified
/// again.
const MAX_CACHED: usize = 1024;

/// A user name and a password from a request, not verified.
#[derive(Clone)]
pub(super) struct Login {
    /// The position of the file in which they are to be.
    pub(super) file: usize,
    pub(super) user: String,
    pub(super) password: String,
}

/// The result of verifying a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The password is correct.
    Accepted,
    /// The password is wrong, or the user is unknown.
    Denied,
    /// Not verified, because too many logins are waiting.
    Overloaded,
    /// Not verified, because the client has sent too many wrong passwords.
    TooManyFailures(RateExceeded),
}

type OnVerdict = Box<dyn FnOnce(Verdict) + Send>;

/// A login that waits for its verification.
struct WaitingLogin {
    login: Login,
    on_verdict: OnVerdict,
}

pub(super) struct PasswordPool {
    /// The contents of the files.
    credentials: Vec<Credentials>,
    /// The key of the cached hashes, random for each process: hashes from a memory dump cannot be
    /// looked up in a precomputed table, and clients cannot choose where their logins are in the
    /// cache's hash table. `None` if the system has no random bytes; nothing is cached then.
    key: Option<[u8; 32]>,
    cache: Mutex<LruCache<blake3::Hash, ()>>,
    queue: Mutex<VerifyQueue>,
    failures: RateTable,
    start: Instant,
    clock: fn() -> Instant,
}

struct VerifyQueue {
    /// By client. Peers on Unix sockets are one client.
    logins: FairQueue<Option<ClientKey>, WaitingLogin>,
    /// Threads that verify a login. At most [`MAX_RUNNING`]. While there are fewer, no login has its
    /// turn.
    running: usize,
}

impl PasswordPool {
    pub(super) fn new(credentials: Vec<Credentials>, failures: Rate) -> Self {
        Self::with_clock(credentials, failures, Instant::now)
    }

    fn with_clock(credentials: Vec<Credentials>, failures: Rate, clock: fn() -> Instant) -> Self {
        let capacity = NonZeroUsize::new(MAX_CACHED).unwrap_or(NonZeroUsize::MIN);
        Self {
            credentials,
            key: random_key(),
            cache: Mutex::new(LruCache::new(capacity)),
            queue: Mutex::new(VerifyQueue {
                logins: FairQueue::new(QueueLimits {
                    max: MAX_WAITING + MAX_RUNNING,
                    max_per_client: MAX_PER_CLIENT,
                    max_served_per_client: 1,
                }),
                running: 0,
            }),
            failures: RateTable::new(failures, FAILURE_BUCKETS),
            start: clock(),
            clock,
        }
    }

    /// Replaces the limit of wrong passwords of a client.
    pub(super) fn limit_failures(&mut self, rate: Rate) {
        self.failures = RateTable::new(rate, FAILURE_BUCKETS);
    }

    /// Returns whether the client may send another login that is not cached. Peers on Unix sockets have
    /// no address and are not limited.
    pub(super) fn check_failures(&self, client: Option<ClientKey>) -> Result<(), RateExceeded> {
        let Some(client) = client else { return Ok(()) };
        let key = RateKey::for_client(client);
        self.failures.check(key, self.elapsed())
    }

    fn count_failure(&self, client: Option<ClientKey>) {
        if let Some(client) = client {
            let key = RateKey::for_client(client);
            // One login of a client is verified at a time, so the limit was checked.
            let _ = self.failures.take(key, self.elapsed());
        }
    }

    fn elapsed(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.start)
    }

    /// Returns whether the login was accepted before and is still cached. Fast enough for an event
    /// loop.
    pub(super) fn is_cached(&self, login: &Login) -> bool {
        let hash = self.keyed_hash(login);
        // blake3 compares hashes in constant time.
        hash.is_some_and(|hash| lock(&self.cache).get(&hash).is_some())
    }

    /// Verifies a login of a client and calls `on_verdict` with the result, on a thread that
    /// `on_verdict` may keep. [`Verdict::Overloaded`] is reported at once on the caller's thread.
    pub(super) fn verify(
        self: &Arc<Self>,
        client: Option<ClientKey>,
        login: Login,
        on_verdict: OnVerdict,
    ) {
        let mut queue = lock(&self.queue);
        let without_room = queue
            .logins
            .push(client, WaitingLogin { login, on_verdict });
        let starts = queue.logins.has_next() && queue.running < MAX_RUNNING;
        if starts {
            queue.running += 1;
        }
        drop(queue);
        if starts {
            self.spawn_thread();
        }
        if let Some(WaitingLogin { on_verdict, .. }) = without_room {
            on_verdict(Verdict::Overloaded);
        }
    }

    /// Starts a thread for one login, which is counted as running already. The cost of a thread is
    /// small compared to a verification, and the callback may keep the thread.
    fn spawn_thread(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        let thread = thread::Builder::new().name("verifier".to_owned());
        if let Err(error) = thread.spawn(move || pool.verify_next()) {
            log::error!("passwords: cannot start a verification thread: {error}");
            let mut queue = lock(&self.queue);
            queue.running -= 1;
            let abandoned = queue.logins.take_if(|_| true);
            drop(queue);
            for WaitingLogin { on_verdict, .. } in abandoned {
                on_verdict(Verdict::Overloaded);
            }
        }
    }

    fn verify_next(self: &Arc<Self>) {
        let next = lock(&self.queue).logins.pop();
        let verified = next.map(|(client, WaitingLogin { login, on_verdict })| {
            let validate = AssertUnwindSafe(|| self.validate(client, &login));
            let verdict = catch_unwind(validate).unwrap_or(Verdict::Denied);
            lock(&self.queue).logins.finish(client);
            (verdict, on_verdict)
        });
        let mut queue = lock(&self.queue);
        if queue.logins.has_next() {
            drop(queue);
            self.spawn_thread();
        } else {
            queue.running -= 1;
            drop(queue);
        }
        if let Some((verdict, on_verdict)) = verified {
            on_verdict(verdict);
        }
    }

    fn validate(&self, client: Option<ClientKey>, login: &Login) -> Verdict {
        // The same login may have been accepted while this one was waiting.
        if self.is_cached(login) {
            return Verdict::Accepted;
        }
        // Others of this client may have been denied meanwhile.
        if let Err(exceeded) = self.check_failures(client) {
            return Verdict::TooManyFailures(exceeded);
        }
        let credentials = self.credentials.get(login.file);
        let is_correct = credentials.is_some_and(|all| all.verify(&login.user, &login.password));
        if !is_correct {
            self.count_failure(client);
            return Verdict::Denied;
        }
        if let Some(hash) = self.keyed_hash(login) {
            lock(&self.cache).put(hash, ());
        }
        Verdict::Accepted
    }

    fn keyed_hash(&self, login: &Login) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(self.key.as_ref()?);
        hasher.update(&login.file.to_le_bytes());
        // A user name has no colon (RFC 7617 §2), so the input is unambiguous.
        hasher.update(login.user.as_bytes());
        hasher.update(b":");
        hasher.update(login.password.as_bytes());
        Some(hasher.finalize())
    }
}

/// `None` if the system has no random bytes.
fn random_key() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let count = getrandom(&mut key, GetRandomFlags::empty());
    (count == Ok(key.len())).then_some(key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::mpsc::{self, Receiver};

    use super::*;
    use crate::middleware::credentials::tests::credentials;

    fn login(password: &str) -> Login {
        Login {
            file: 0,
            user: "ana".to_owned(),
            password: password.to_owned(),
        }
    }

    fn client(last: u8) -> Option<ClientKey> {
        ClientKey::of([192, 0, 2, last].into())
    }

    /// Sends logins of a client, and receives their verdicts in the order in which they are reported.
    fn verify<'p>(
        pool: &Arc<PasswordPool>,
        client: Option<ClientKey>,
        passwords: impl IntoIterator<Item = &'p str>,
    ) -> Receiver<Verdict> {
        let (sender, receiver) = mpsc::channel();
        for password in passwords {
            let sender = sender.clone();
            let on_verdict = move |verdict| sender.send(verdict).expect("the test waits");
            pool.verify(client, login(password), Box::new(on_verdict));
        }
        receiver
    }

    fn verdict(pool: &Arc<PasswordPool>, last: u8, password: &str) -> Verdict {
        let verdict = verify(pool, client(last), [password]).recv();
        verdict.expect("a verdict")
    }

    /// A pool for which no time passes.
    fn pool() -> Arc<PasswordPool> {
        static NOW: OnceLock<Instant> = OnceLock::new();
        let clock = || *NOW.get_or_init(Instant::now);
        Arc::new(PasswordPool::with_clock(
            vec![credentials()],
            FAILURES,
            clock,
        ))
    }

    #[test]
    fn only_accepted_logins_are_cached() {
        let pool = pool();
        assert!(!pool.is_cached(&login("secret")));
        assert_eq!(verdict(&pool, 1, "wrong"), Verdict::Denied);
        assert_eq!(verdict(&pool, 1, "secret"), Verdict::Accepted);
        assert!(pool.is_cached(&login("secret")));
        assert!(!pool.is_cached(&login("wrong")));
        for number in 0..MAX_CACHED {
            let hash = blake3::hash(&number.to_le_bytes());
            lock(&pool.cache).put(hash, ());
        }
        assert!(!pool.is_cached(&login("secret")), "the cache is bounded");
    }

    #[test]
    fn logins_beyond_the_queue_are_overloaded() {
        let pool = pool();
        // As if all threads were running.
        lock(&pool.queue).running = MAX_RUNNING;
        let logins = vec!["secret"; MAX_PER_CLIENT + 3];
        let verdicts = verify(&pool, client(1), logins);
        let overloaded: Vec<_> = verdicts.try_iter().collect();
        assert_eq!(overloaded, [Verdict::Overloaded; 3]);
        // One thread serves all that wait.
        pool.verify_next();
        let rest: Vec<_> = verdicts.iter().take(MAX_PER_CLIENT).collect();
        assert_eq!(rest, [Verdict::Accepted; MAX_PER_CLIENT]);
    }

    /// However many clients flood the queue, another one finds room in it and has its turn after one
    /// login of each.
    #[test]
    fn flood_of_wrong_passwords_does_not_delay_other_clients() {
        let pool = pool();
        lock(&pool.queue).running = MAX_RUNNING;
        let mut floods = Vec::new();
        for last in 1..=9 {
            let flood = vec!["wrong"; 2 * MAX_PER_CLIENT];
            floods.push(verify(&pool, client(last), flood));
        }
        let correct = verify(&pool, client(100), ["secret"]);
        let before = floods.iter().flat_map(Receiver::try_iter);
        assert!(
            before
                .into_iter()
                .all(|verdict| verdict == Verdict::Overloaded)
        );
        // Run by hand what the threads do, so that the order is certain.
        let mut verified = 0;
        while correct.try_recv().is_err() {
            let (client, next) = lock(&pool.queue).logins.pop().expect("a login");
            let verdict = pool.validate(client, &next.login);
            lock(&pool.queue).logins.finish(client);
            (next.on_verdict)(verdict);
            verified += 1;
        }
        assert_eq!(verified, 10);
    }

    #[test]
    fn client_with_too_many_wrong_passwords_is_limited() {
        let pool = pool();
        let wrong = vec!["wrong"; FAILURES.burst() as usize + 9];
        let verdicts: Vec<_> = verify(&pool, client(1), wrong).iter().collect();
        let denied = verdicts
            .iter()
            .filter(|verdict| **verdict == Verdict::Denied);
        assert_eq!(denied.count(), FAILURES.burst() as usize);
        let limited = |verdict: &Verdict| matches!(verdict, Verdict::TooManyFailures(_));
        assert_eq!(
            verdicts.iter().filter(|verdict| limited(verdict)).count(),
            9
        );
        // Its correct passwords are not verified either, so that they cannot be guessed.
        assert!(limited(&verdict(&pool, 1, "secret")));
        assert!(pool.check_failures(client(1)).is_err());
        // Other clients are, and a login that was accepted is.
        assert_eq!(verdict(&pool, 2, "secret"), Verdict::Accepted);
        assert_eq!(verdict(&pool, 1, "secret"), Verdict::Accepted);
        assert!(limited(&verdict(&pool, 1, "wrong")));
        // Peers on Unix sockets are not told apart.
        let wrong = vec!["wrong"; FAILURES.burst() as usize + 9];
        let mut verdicts = verify(&pool, None, wrong).into_iter();
        assert!(verdicts.all(|verdict| verdict == Verdict::Denied));
    }
}

use std::sync::mpsc;
use std::thread;

use ::http::StatusCode;

use super::*;

/// Outcomes in outcomes, made before the first is delivered.
fn nested(depth: usize) -> Outcome {
    (0..depth).fold(StatusCode::OK.into(), |inner, _| {
        Outcome::deferred(move |responder| responder.send(inner))
    })
}

/// Outcomes of which each makes the next.
fn chained(length: usize) -> Outcome {
    Outcome::deferred(move |responder| match length {
        1 => responder.send(StatusCode::OK),
        _ => responder.send(chained(length - 1)),
    })
}

fn endless() -> Outcome {
    Outcome::deferred(|responder| responder.send(endless()))
}

#[test]
fn deferrals_in_a_row_are_limited() {
    for (outcome, status) in [
        (nested(MAX_DEFERRALS), 200),
        (nested(MAX_DEFERRALS + 1), 500),
        (nested(200_000), 500),
        (chained(MAX_DEFERRALS), 200),
        (chained(MAX_DEFERRALS + 1), 500),
        (chained(200_000), 500),
        (endless(), 500),
        (nested(200_000).map(|response| response), 500),
        (chained(MAX_DEFERRALS).map(|response| response), 200),
        (endless().map(|response| response), 500),
    ] {
        assert_eq!(outcome.wait().status(), status);
    }
    // Never delivered.
    drop(nested(200_000));
    drop(nested(200_000).map(|response| response));
}

/// Each outcome is sent after the closure before it has returned.
#[test]
fn deferrals_over_time_are_not_limited() {
    fn pass_on(sender: &mpsc::Sender<Responder>) -> Outcome {
        let sender = sender.clone();
        Outcome::deferred(move |responder| sender.send(responder).expect("the test waits"))
    }
    let (sender, responders) = mpsc::channel();
    let first = pass_on(&sender);
    let waiting = thread::spawn(move || first.wait().status());
    for _ in 0..2 * MAX_DEFERRALS {
        let responder: Responder = responders.recv().expect("a responder");
        responder.send(pass_on(&sender));
    }
    let last: Responder = responders.recv().expect("a responder");
    last.send(StatusCode::IM_A_TEAPOT);
    assert_eq!(waiting.join().expect("no panic"), StatusCode::IM_A_TEAPOT);
}

#[test]
fn panic_in_a_closure_is_500() {
    let panics = || Outcome::deferred(|_| panic!("on purpose"));
    let inner = Outcome::deferred(move |responder| responder.send(panics()));
    for outcome in [panics(), inner] {
        assert_eq!(outcome.wait().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

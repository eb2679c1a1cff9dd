//! When a certificate is renewed, and when an attempt that has failed is repeated. Times are in seconds
//! since 1970, `now` is an argument, and a random number from 0 to 1 spreads the attempts of many
//! servers.

use serde::{Deserialize, Serialize};

use super::certificate::{CertificateInfo, Validity};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The time between two orders for a name after a failure. Let's Encrypt allows five failed validations
/// of a name per hour.
const ORDER_INTERVAL: i64 = HOUR;

/// The longest time between two orders after failures, unless the certificate authority demands more.
const MAX_ORDER_INTERVAL: i64 = 6 * HOUR;

/// The first and the longest time after which a certificate authority that could not be reached is
/// tried again.
const FIRST_RETRY: i64 = 5;
const MAX_RETRY: i64 = HOUR;

/// The limit of the time that a certificate authority demands (Retry-After).
const MAX_RETRY_AFTER: i64 = DAY;

/// The time between two requests for renewal information, if the certificate authority demands no
/// other, and its limits (RFC 9773 §4.3.3).
const ARI_INTERVAL: i64 = 6 * HOUR;
const MIN_ARI_INTERVAL: i64 = MINUTE;
const MAX_ARI_INTERVAL: i64 = DAY;

/// When a certificate is renewed.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct RenewalPlan {
    /// The certificate that the plan is for (RFC 9773 §4.1).
    pub(super) certificate: String,
    pub(crate) renew_at: i64,
    /// The window of the certificate authority, if it has suggested one.
    pub(super) window: Option<(i64, i64)>,
    /// When the renewal information is requested next. `None` without such information.
    pub(super) next_check: Option<i64>,
}

impl RenewalPlan {
    /// Returns whether the plan is for this certificate.
    pub(crate) fn is_for(&self, info: &CertificateInfo) -> bool {
        self.certificate == info.id
    }

    /// Returns whether the certificate authority has suggested the time.
    pub(crate) fn is_suggested(&self) -> bool {
        self.window.is_some()
    }

    /// Plans the renewal at two thirds of the lifetime, or up to a thirtieth of it earlier.
    pub(super) fn by_lifetime(certificate: String, validity: Validity, random: f64) -> Self {
        let lifetime = validity.lifetime();
        let spread = (lifetime as f64 / 30.0 * random) as i64;
        Self {
            certificate,
            renew_at: validity.not_before + lifetime / 3 * 2 - spread,
            window: None,
            next_check: None,
        }
    }

    /// Plans the renewal at a random time in a window of the certificate authority. A window that is
    /// the same as before does not change the time (RFC 9773 §4.2).
    pub(super) fn follow(&mut self, window: (i64, i64), random: f64) {
        if self.window != Some(window) {
            let (start, end) = window;
            let offset = (end.saturating_sub(start) as f64 * random) as i64;
            self.renew_at = start.saturating_add(offset);
            self.window = Some(window);
        }
    }

    /// Plans the next request for renewal information.
    pub(super) fn check_again(&mut self, now: i64, retry_after: Option<u64>) {
        let demanded = retry_after.map(|seconds| seconds.min(MAX_ARI_INTERVAL as u64) as i64);
        let interval = demanded.unwrap_or(ARI_INTERVAL).max(MIN_ARI_INTERVAL);
        self.next_check = Some(now + interval);
    }
}

/// Returns when an attempt is repeated that has failed without a new order: the certificate authority
/// could not be reached. `failures` counts it.
pub(super) fn retry_at(now: i64, failures: u32, retry_after: Option<u64>, random: f64) -> i64 {
    now + spread(grown(FIRST_RETRY, failures, MAX_RETRY), random).max(bounded(retry_after))
}

/// Returns when the next order for a name may be made after one that has failed.
pub(super) fn order_again_at(
    now: i64,
    failures: u32,
    retry_after: Option<u64>,
    random: f64,
) -> i64 {
    let interval = grown(ORDER_INTERVAL, failures, MAX_ORDER_INTERVAL);
    now + spread(interval, random).max(bounded(retry_after))
}

/// Returns when the next order may be made after one that has succeeded. A certificate that seems due at
/// once, because a clock is wrong or because the certificate authority suggests it, is not ordered
/// without end.
pub(super) fn order_after_success_at(now: i64, validity: Validity) -> i64 {
    now + ORDER_INTERVAL.min(validity.lifetime() / 3)
}

fn bounded(retry_after: Option<u64>) -> i64 {
    retry_after.unwrap_or(0).min(MAX_RETRY_AFTER as u64) as i64
}

/// Doubles the time with each failure after the first.
fn grown(first: i64, failures: u32, max: i64) -> i64 {
    let doublings = failures.saturating_sub(1).min(20);
    (first << doublings).min(max)
}

/// Adds up to a tenth.
fn spread(seconds: i64, random: f64) -> i64 {
    seconds + (seconds as f64 / 10.0 * random) as i64
}

/// What is known of a name when the next step is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// Of the present certificate.
    pub(crate) validity: Option<Validity>,
    pub(crate) plan: Option<&'a RenewalPlan>,
    /// When the next attempt may be made, after a failure.
    pub(crate) next_attempt: Option<i64>,
    /// Whether a new certificate is wanted whatever the plan says: the operator has asked for it, the
    /// certificate is revoked, or an order is unfinished.
    pub(crate) is_wanted: bool,
}

/// What is to be done for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing before this time.
    Wait(i64),
    /// Obtain a certificate.
    Order,
    /// Make the plan for a new certificate, or ask for renewal information again.
    Plan,
}

/// Decides what is to be done for a name.
pub(crate) fn decide(facts: &Facts<'_>, now: i64) -> Action {
    let Some(validity) = facts.validity.filter(|validity| now < validity.not_after) else {
        return order_or_wait(facts, now);
    };
    if facts.is_wanted {
        return order_or_wait(facts, now);
    }
    let Some(plan) = facts.plan else {
        return Action::Plan;
    };
    // A plan beyond the expiry is not followed.
    let renew_at = plan.renew_at.min(validity.not_after - MINUTE);
    if now >= renew_at {
        return order_or_wait(facts, now);
    }
    match plan.next_check {
        Some(check) if now >= check => Action::Plan,
        // A clock that was set back does not stop the checks.
        Some(check) if check > now + 2 * MAX_ARI_INTERVAL => Action::Plan,
        Some(check) => Action::Wait(check.min(renew_at)),
        None => Action::Wait(renew_at),
    }
}

fn order_or_wait(facts: &Facts<'_>, now: i64) -> Action {
    match facts.next_attempt {
        // Beyond this, the clock was set back.
        Some(next) if now < next && next <= now + 2 * MAX_RETRY_AFTER => Action::Wait(next),
        _ => Action::Order,
    }
}

/// Returns whether the renewal is late: a tenth of the lifetime, or a day, has passed since it was due.
pub(crate) fn is_overdue(validity: Validity, plan: &RenewalPlan, now: i64) -> bool {
    let grace = (validity.lifetime() / 10).min(DAY);
    now >= plan.renew_at.saturating_add(grace)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_800_000_000;
    const VALIDITY: Validity = Validity {
        not_before: START,
        not_after: START + 90 * DAY,
    };

    fn plan() -> RenewalPlan {
        RenewalPlan::by_lifetime("id".to_owned(), VALIDITY, 0.0)
    }

    fn facts(plan: Option<&RenewalPlan>) -> Facts<'_> {
        Facts {
            validity: Some(VALIDITY),
            plan,
            next_attempt: None,
            is_wanted: false,
        }
    }

    #[test]
    fn renewal_is_at_two_thirds_of_the_lifetime() {
        assert_eq!(plan().renew_at, START + 60 * DAY);
        let earliest = RenewalPlan::by_lifetime("id".to_owned(), VALIDITY, 1.0);
        assert_eq!(earliest.renew_at, START + 57 * DAY);
        let six_days = Validity {
            not_before: START,
            not_after: START + 6 * DAY,
        };
        let plan = RenewalPlan::by_lifetime("id".to_owned(), six_days, 0.0);
        assert_eq!(plan.renew_at, START + 4 * DAY);
    }

    #[test]
    fn renewal_begins_when_the_clock_reaches_the_plan() {
        let plan = plan();
        let at = |now| decide(&facts(Some(&plan)), now);
        assert_eq!(at(START), Action::Wait(START + 60 * DAY));
        assert_eq!(at(START + 60 * DAY - 1), Action::Wait(START + 60 * DAY));
        assert_eq!(at(START + 60 * DAY), Action::Order);
        assert_eq!(at(START + 1000 * DAY), Action::Order);
    }

    #[test]
    fn window_sets_the_time_until_it_changes() {
        let mut plan = plan();
        let window = (START + 10 * DAY, START + 12 * DAY);
        plan.follow(window, 0.5);
        assert_eq!(plan.renew_at, START + 11 * DAY);
        plan.follow(window, 0.9);
        assert_eq!(plan.renew_at, START + 11 * DAY);
        plan.follow((START - 2 * DAY, START - DAY), 0.5);
        assert_eq!(decide(&facts(Some(&plan)), START), Action::Order);
        // A certificate is renewed before it expires, whatever the window.
        plan.follow((START + 900 * DAY, START + 901 * DAY), 0.0);
        let last = VALIDITY.not_after - MINUTE;
        assert_eq!(decide(&facts(Some(&plan)), START), Action::Wait(last));
    }

    #[test]
    fn renewal_information_is_requested_within_bounds() {
        for (retry_after, expected) in [
            (None, 6 * HOUR),
            (Some(0), MINUTE),
            (Some(3 * 3600), 3 * HOUR),
            (Some(u64::MAX), DAY),
        ] {
            let mut plan = plan();
            plan.check_again(START, retry_after);
            assert_eq!(plan.next_check, Some(START + expected), "{retry_after:?}");
            let at = |now| decide(&facts(Some(&plan)), now);
            assert_eq!(at(START), Action::Wait(START + expected));
            assert_eq!(at(START + expected), Action::Plan);
        }
    }

    #[test]
    fn failed_order_is_repeated_after_an_hour_at_the_earliest() {
        for (failures, retry_after, expected) in [
            (1, None, HOUR),
            (2, None, 2 * HOUR),
            (3, None, 4 * HOUR),
            (4, None, 6 * HOUR),
            (u32::MAX, None, 6 * HOUR),
            (1, Some(10), HOUR),
            (1, Some(5 * 3600), 5 * HOUR),
            (1, Some(u64::MAX), DAY),
        ] {
            let at = order_again_at(START, failures, retry_after, 0.0);
            assert_eq!(at - START, expected, "{failures} {retry_after:?}");
        }
    }

    #[test]
    fn next_order_after_a_success_is_not_at_once() {
        let after = |lifetime| {
            let validity = Validity {
                not_before: START - DAY,
                not_after: START - DAY + lifetime,
            };
            order_after_success_at(START, validity) - START
        };
        assert_eq!(
            [90 * DAY, DAY, HOUR, 30, 0].map(after),
            [HOUR, HOUR, HOUR / 3, 10, 0]
        );
    }

    #[test]
    fn unreachable_authority_is_tried_again_soon() {
        for (failures, retry_after, expected) in [
            (1, None, 5),
            (2, None, 10),
            (5, None, 80),
            (u32::MAX, None, HOUR),
            (1, Some(120), 120),
        ] {
            let at = retry_at(START, failures, retry_after, 0.0);
            assert_eq!(at - START, expected, "{failures} {retry_after:?}");
        }
    }

    #[test]
    fn next_attempt_delays_every_reason_to_order() {
        let plan = plan();
        let expired = VALIDITY.not_after + DAY;
        for (facts, now) in [
            (
                Facts {
                    validity: None,
                    ..facts(None)
                },
                START,
            ),
            (facts(Some(&plan)), expired),
            (
                Facts {
                    is_wanted: true,
                    ..facts(Some(&plan))
                },
                START,
            ),
            (facts(Some(&plan)), START + 61 * DAY),
        ] {
            assert_eq!(decide(&facts, now), Action::Order);
            let later = Facts {
                next_attempt: Some(now + HOUR),
                ..facts
            };
            assert_eq!(decide(&later, now), Action::Wait(now + HOUR));
            assert_eq!(decide(&later, now + HOUR), Action::Order);
            // The clock was set back by a year.
            assert_eq!(
                decide(&later, now - 365 * DAY),
                match facts.validity {
                    Some(_) if !facts.is_wanted => decide(&facts, now - 365 * DAY),
                    _ => Action::Order,
                }
            );
        }
        assert_eq!(decide(&facts(None), START), Action::Plan);
    }

    proptest! {
        /// Whatever was stored or received: no overflow, and a wait ends before the expiry.
        #[test]
        fn any_input_is_decided(
            renew_at: i64, check: Option<i64>, next in proptest::option::of(0..1i64 << 40),
            start: i64, end: i64, retry_after: Option<u64>, random in 0.0..1.0f64,
            now in 0..1i64 << 40,
        ) {
            let mut plan = RenewalPlan {
                certificate: String::new(), renew_at, window: None, next_check: check,
            };
            plan.follow((start, end), random);
            let facts = Facts { next_attempt: next, ..facts(Some(&plan)) };
            if let Action::Wait(until) = decide(&facts, now) {
                prop_assert!(until > now);
                prop_assert!(until < VALIDITY.not_after || Some(until) == next);
            }
            plan.check_again(now, retry_after);
            prop_assert!(order_again_at(now, 3, retry_after, random) >= now + HOUR);
            let _ = is_overdue(VALIDITY, &plan, now);
        }
    }
}

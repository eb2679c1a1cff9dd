//! Tests of what programs expect of every public type: it can be sent to other threads, and shown.

use std::error::Error;
use std::fmt::Debug;

use tws::{Outcome, Request, Response, Router, StatusCode};

fn is_shared<T: Send + Sync + Debug + 'static>() {}

fn is_sent<T: Send + Debug + 'static>() {}

fn is_error<T: Error + Send + Sync + 'static>() {}

fn is_sent_error<T: Error + Send + 'static>() {}

/// The compiler checks this.
#[test]
fn types_are_send_and_sync_and_errors_are_errors() {
    is_shared::<tws::AllowedHosts>();
    is_shared::<tws::Around>();
    is_shared::<tws::BoxHandler>();
    is_shared::<tws::Cancellation>();
    is_shared::<tws::Config>();
    is_shared::<tws::Cors>();
    is_shared::<tws::FileRange>();
    is_shared::<tws::Networks>();
    is_shared::<tws::RateLimit>();
    is_shared::<tws::Rejection>();
    is_shared::<tws::ReplaceableRoot>();
    is_shared::<tws::Request<'static>>();
    is_shared::<tws::Router>();
    is_shared::<tws::Router<String>>();
    is_shared::<tws::ServerHandle>();
    is_shared::<tws::RequestId>();
    is_shared::<tws::SlowLog>();
    is_shared::<tws::StaticFiles>();
    is_shared::<tws::TestClient>();
    is_shared::<tws::admin::Admin>();
    is_shared::<tws::observe::Observer>();
    is_shared::<tws::site::Site>();
    // What is used up by one thread.
    is_sent::<tws::BodyPieces>();
    is_sent::<tws::BodyReader>();
    is_sent::<tws::BodyStream>();
    is_sent::<tws::Deferral>();
    is_sent::<tws::DiskJob>();
    is_sent::<tws::Next>();
    is_sent::<tws::Outcome>();
    is_sent::<tws::Responder>();
    is_sent::<tws::Response>();
    is_sent::<tws::Server>();
    is_sent::<tws::access_log::AccessLog>();
    is_error::<tws::Error>();
    is_error::<tws::FormError>();
    is_error::<tws::InputError>();
    is_error::<tws::SettingError>();
    // It may contain a response, whose body may be a closure.
    is_sent_error::<tws::HandlerError>();
}

#[test]
fn types_show_what_they_contain() {
    let ok = |_: &Request<'_>| StatusCode::OK;
    let router = Router::new().get("/a/{b}", ok).post("/a/{b}", ok);
    assert_eq!(format!("{router:?}"), "Router {\"/a/{b}\": [GET, POST]}");
    let deferred = Outcome::deferred(drop);
    assert_eq!(format!("{deferred:?}"), "Deferred(Deferral(..))");
    let ready = format!("{:?}", Outcome::from(Response::text("x")));
    assert!(ready.contains("200"), "{ready}");
}

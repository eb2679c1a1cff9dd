//! What it answers, without a socket.

use tws::{Handler, Method, Request};

fn ask(request: &Request<'_>) -> (u16, String) {
    let response = crate::app().handle(request).wait();
    let status = response.status().as_u16();
    let content = response.into_content().expect("content");
    (status, String::from_utf8_lossy(&content).into_owned())
}

#[test]
fn pages() {
    assert_eq!(ask(&Request::get("/")), (200, "Homepage\n".to_owned()));
    assert_eq!(
        ask(&Request::get("/x")),
        (404, "Page not found\n".to_owned())
    );
}

#[test]
fn an_echo() {
    assert_eq!(
        ask(&Request::post("/echo", "¡hola!")),
        (200, "¡hola!".to_owned())
    );
}

#[test]
fn things_are_deleted() {
    assert_eq!(
        ask(&Request::new(Method::DELETE, "/thing")),
        (204, String::new())
    );
}

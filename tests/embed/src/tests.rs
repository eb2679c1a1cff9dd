//! Tests of the example's responses, without a socket.

use tws::{Handler, Method, Request};

fn respond(request: &Request<'_>) -> (u16, String) {
    let response = crate::app().handle(request).wait();
    let status = response.status().as_u16();
    let content = response.into_content().expect("body in memory");
    (status, String::from_utf8_lossy(&content).into_owned())
}

#[test]
fn pages_are_200_or_404() {
    assert_eq!(respond(&Request::get("/")), (200, "Homepage\n".to_owned()));
    assert_eq!(
        respond(&Request::get("/x")),
        (404, "Page not found\n".to_owned())
    );
}

#[test]
fn post_is_echoed() {
    assert_eq!(
        respond(&Request::post("/echo", "¡hola!")),
        (200, "¡hola!".to_owned())
    );
}

#[test]
fn delete_is_204() {
    assert_eq!(
        respond(&Request::new(Method::DELETE, "/thing")),
        (204, String::new())
    );
}

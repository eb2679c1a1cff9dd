use tws::{Config, Error, Method, Request, Response, Router, Server, StatusCode};

fn main() -> Result<(), Error> {
    Server::bind(Config::default())?.serve(app())
}

fn app() -> Router {
    Router::new()
        .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
        .fallback(|r: &Request<'_>| match *r.method() {
            Method::POST => Response::text(String::from_utf8_lossy(r.content())),
            Method::DELETE => Response::new(StatusCode::NO_CONTENT),
            _ => Response::text("Page not found\n").with_status(StatusCode::NOT_FOUND),
        })
}

#[cfg(test)]
mod tests;

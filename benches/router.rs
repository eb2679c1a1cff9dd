//! Benchmarks of routing, and of a closure's round trip through the protocol machine, without a
//! socket.

use criterion::{Criterion, criterion_group, criterion_main};
use tws::bench::BenchConnection;
use tws::{Handler, InputError, Request, Response, Router, StatusCode};

/// A router of a typical size, with a nested router.
fn router() -> Router {
    let empty = |_: &Request<'_>| Response::new(StatusCode::NO_CONTENT);
    let named = |request: &Request<'_>| match request.param_str("id") {
        Some(_) => Response::new(StatusCode::NO_CONTENT),
        None => Response::new(StatusCode::NOT_FOUND),
    };
    let inner = Router::new()
        .get("/orders", empty)
        .get("/orders/{id}", named);
    (0..32)
        .fold(Router::new(), |router, number| {
            router.get(&format!("/pages/{number}"), empty)
        })
        .get("/users", empty)
        .post("/users", empty)
        .get("/users/{id}", named)
        .get("/files/{*rest}", empty)
        .nest("/api", inner)
        .fallback(empty)
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    let router = router();
    for (name, target) in [
        ("static path", "/pages/17"),
        ("parameter", "/users/4711"),
        ("rest", "/files/a/b/c.txt"),
        ("nested parameter", "/api/orders/4711"),
        ("fallback", "/images/user_one.jpg"),
    ] {
        let request = Request::get(target);
        let response = router.handle(&request).wait();
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{target}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| router.handle(std::hint::black_box(&request)));
        });
    }
    group.finish();
}

/// A router with so many routes, three quarters of which have a parameter.
fn router_of(routes: usize) -> Router {
    let empty = |_: &Request<'_>| Response::new(StatusCode::NO_CONTENT);
    let typed = |request: &Request<'_>| {
        let id: u64 = request.param("id")?;
        Ok::<_, InputError>(Response::new(match id {
            4711 => StatusCode::NO_CONTENT,
            _ => StatusCode::NOT_FOUND,
        }))
    };
    (0..routes.div_ceil(4)).fold(Router::new(), |router, number| {
        let path = format!("/api/v1/resource{number}");
        router
            .get(&path, empty)
            .get(&format!("{path}/{{id}}"), typed)
            .get(&format!("{path}/{{id}}/items"), typed)
            .get(&format!("{path}/{{id}}/items/{{item}}"), typed)
    })
}

fn sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router size");
    for routes in [10, 100, 1000] {
        let router = router_of(routes);
        let last = routes.div_ceil(4) - 1;
        for (name, target) in [
            ("static", format!("/api/v1/resource{last}")),
            ("parameters", format!("/api/v1/resource{last}/4711/items/7")),
        ] {
            let request = Request::get(&target);
            let response = router.handle(&request).wait();
            assert_eq!(response.status(), StatusCode::NO_CONTENT, "{target}");
            group.bench_function(format!("{routes} routes, {name}"), |bencher| {
                bencher.iter(|| router.handle(std::hint::black_box(&request)));
            });
        }
    }
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    const REQUEST: &[u8] = b"GET /hello/you HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
    let router = Router::new().get("/hello/{name}", |request: &Request<'_>| {
        Response::text(format!(
            "hello {}\n",
            request.param_str("name").unwrap_or("")
        ))
    });
    criterion.bench_function("closure round trip", |bencher| {
        let mut exchange = BenchConnection::default();
        let sent = exchange.serve(REQUEST, &router);
        assert!(sent > "hello you\n".len());
        bencher.iter(|| exchange.serve(std::hint::black_box(REQUEST), &router));
    });
}

criterion_group!(benches, routing, sizes, round_trip);
criterion_main!(benches);

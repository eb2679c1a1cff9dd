use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tws::site::Size;

use super::*;

fn settings(args: &[&str]) -> Result<Settings, String> {
    let args = std::iter::once("tws").chain(args.iter().copied());
    let args = RawArgs {
        args: args.map(Into::into).collect(),
        ..RawArgs::default()
    };
    Settings::read(&args).map_err(|exit| match exit {
        Exit::Print(text) => panic!("{text}"),
        Exit::Errors(errors) => match &errors[..] {
            [ConfigError::Usage(text)] => text.clone(),
            other => panic!("{other:?}"),
        },
    })
}

#[test]
fn number_without_flag_is_the_port() {
    let table: &[(&[&str], &str, u16)] = &[
        (&["80"], "", 80),
        (&["site"], "site", 8000),
        (&["site", "80"], "site", 80),
        (&["80", "site"], "site", 80),
        (&["./80"], "./80", 8000),
        (&["80", "81x"], "81x", 80),
        (&["-d", "site", "80"], "site", 80),
        (&["site", "-p", "0"], "site", 0),
        (&["site", "-p", "80", "80"], "site", 80),
        (&["80", "-b", "127.0.0.1", "-b", "[::1]:81"], "", 80),
        (&["80", "-b", "127.0.0.1:80"], "", 80),
        (&["80", "-b", "unix:s"], "", 80),
    ];
    for (args, root, port) in table {
        let settings = settings(args).expect("settings");
        assert_eq!(settings.config.port, *port, "{args:?}");
        if !root.is_empty() {
            assert_eq!(settings.root, Path::new(root), "{args:?}");
        }
    }
}

#[test]
fn wrong_flags_are_worded_as_subject_cause_and_remedy() {
    let table: &[(&[&str], &str)] = &[
        (
            &["70000"],
            "PORT: must be an integer between 0 and 65535 (got \"70000\")",
        ),
        (
            &["-p", "70000"],
            "--port: must be an integer between 0 and 65535 (got \"70000\")",
        ),
        (
            &["-p", "x"],
            "--port: must be an integer between 0 and 65535 (got \"x\")",
        ),
        (
            &["-p"],
            "--port: the value is missing or empty; give --port <PORT>",
        ),
        (
            &["-p", "1", "-p", "2"],
            "--port: given more than once; give one value",
        ),
        (&["a", "b"], "give only one folder (got a and b)"),
        (&["80", "81", "a"], "give only one folder (got 81 and a)"),
        (&["a", "80", "81"], "two ports given (80 and 81); give one"),
        (&["80", "81"], "two ports given (80 and 81); give one"),
        (
            &["80", "-p", "81"],
            "PORT and --port differ; give only one of them",
        ),
        (
            &["a", "-d", "b"],
            "PATH and --directory differ; give only one of them",
        ),
        (
            &[""],
            "PATH: the folder name is empty; give a folder, or . for this one",
        ),
        (
            &["--prot", "80"],
            "--prot: unknown flag; did you mean --port?",
        ),
        (
            &["--frobnicate"],
            "--frobnicate: unknown flag; `tws --help` lists the flags",
        ),
        (
            &["--threads", "2"],
            "--threads: unknown flag; did you mean --workers?",
        ),
        (
            &["--no-hidden"],
            "--no-hidden: unknown flag; use --hidden=no",
        ),
        (
            &["--no-listing"],
            "--no-listing: unknown flag; use --listing=off",
        ),
        (
            &["--no-port"],
            "--no-port: unknown flag; `tws --help` lists the flags",
        ),
        (&["--verbose=2"], "--verbose: takes no value (got \"2\")"),
        // What was typed is named as it was typed.
        (
            &["--upload_max", "5M"],
            "--upload_max: unknown flag; did you mean --upload-max?",
        ),
        (&["-?"], "-?: unknown flag; `tws --help` lists the flags"),
        (&["--ü"], "--ü: unknown flag; `tws --help` lists the flags"),
        (
            &["-version"],
            "-version: unknown flag; did you mean --version?",
        ),
        (
            &["-vx", "-x"],
            "-x: unknown flag; `tws --help` lists the flags",
        ),
        (
            &["-xana:s3cret"],
            "-x: unknown flag; `tws --help` lists the flags",
        ),
        (
            &["--listen"],
            "--listen: the value is missing or empty; give --listen <ADDRESS>",
        ),
        (
            &["-l", "x:y"],
            "-l: \"x:y\" is neither an address nor a name that this machine can resolve; give an address such as 127.0.0.1, 0.0.0.0, ::1, [::]:80 or unix:/run/tws.sock",
        ),
        (
            &["--listen", "70000"],
            "--listen: must be an integer between 0 and 65535 (got \"70000\")",
        ),
        (
            &["--root"],
            "--root: the value is missing or empty; give --root <PATH>",
        ),
        (
            &["-d", ""],
            "--directory: the value is missing or empty; give --directory <PATH>",
        ),
        (&["--qrcode"], "--qrcode: unknown flag; did you mean --qr?"),
        (
            &["--check"],
            "--check: unknown flag; did you mean `tws check`?",
        ),
        // Operands that are meant as flags, or as values of flags.
        (
            &["a", ":8000"],
            "give only one folder (got a and :8000); did you mean --port=8000?",
        ),
        (
            &["127.0.0.1", "a"],
            "give only one folder (got 127.0.0.1 and a); did you mean --bind=127.0.0.1?",
        ),
        (
            &["--spa", "x.html", "a"],
            "give only one folder (got x.html and a); did you mean --spa=x.html?",
        ),
        (
            &["--cors", "http://x.test", "a"],
            "give only one folder (got http://x.test and a); did you mean --cors=http://x.test?",
        ),
        (
            &["-b", "127.0.0.1:8000", "8001"],
            "two ports given (8001 and 8000); give one",
        ),
        (
            &["-b", "127.0.0.1:8000,[::1]:8002", "-p", "8001"],
            "two ports given (8001 and 8000); give one",
        ),
        (
            &["-b", "127.0.0.1:8000,unix:/s", "8001"],
            "two ports given (8001 and 8000); give one",
        ),
        (
            &["--workers", "0"],
            "--workers: must be an integer between 1 and 4294967295 (got \"0\")",
        ),
        (
            &["--hidden=maybe"],
            "--hidden: must be yes or no (got \"maybe\")",
        ),
        (
            &["-b", "300.1.1.1.1"],
            "--bind: \"300.1.1.1.1\" is neither an address nor a name that this machine can resolve; give an address such as 127.0.0.1, 0.0.0.0, ::1, [::]:80 or unix:/run/tws.sock",
        ),
        (
            &["-b", "unix:"],
            "--bind: the path of the Unix socket is missing; give unix:/run/tws.sock",
        ),
        (
            &["--index", "a/b"],
            "--index: must be the name of a file without folders (got \"a/b\")",
        ),
        (
            &["--log-format", "xml"],
            "--log-format: must be one of access-count, common, combined, json, or a text with fields such as {client} (got \"xml\")",
        ),
        (
            &["--access-log", "off", "--access-log", "-"],
            "--access-log: off excludes other destinations; give only one of them",
        ),
        (
            &["--users", "oracle:x"],
            "--users: must be a store such as sqlite:users.db or postgres://user:password@host/database",
        ),
        (
            &["--users", "postgre://u:p@h/d"],
            "--users: must be a store such as sqlite:users.db or postgres://user:password@host/database",
        ),
        (
            &["--config", "f", "--no-site-file"],
            "--config and --no-site-file exclude each other; give only one of them",
        ),
        (
            &["--keep-alive-timeout", "0"],
            "--keep-alive-timeout: must be an integer between 1 and 86400 (got \"0\")",
        ),
        (
            &["--unix-mode", "rw"],
            "--unix-mode: must be an octal file mode, such as 660 or 600 (got \"rw\")",
        ),
        (
            &["--tls-key", "k"],
            "0 --tls-cert and 1 --tls-key given; give one key for each certificate in the same order, or none if each key is in its certificate's file",
        ),
        (
            &["--tls-cert", "a", "--tls-cert", "b", "--tls-key", "k"],
            "2 --tls-cert and 1 --tls-key given; give one key for each certificate in the same order, or none if each key is in its certificate's file",
        ),
        (
            &["--tls-self-signed", "--tls-cert", "a"],
            "--tls-self-signed excludes --tls-cert and --tls-key; give one or the other",
        ),
        (
            &["--redirect-http"],
            "--redirect-http: HTTPS is off; add --acme, --tls-cert or --tls-self-signed",
        ),
        (
            &["--redirect-http=x", "--tls-self-signed"],
            "--redirect-http: must be an integer between 0 and 65535 (got \"x\")",
        ),
        (
            &["--rate-limit", "0"],
            "--rate-limit: the rate must be between 0.0001 and 1000000 requests per second",
        ),
        (
            &["--rate-limit-connection", "1/s"],
            "--rate-limit-connection: must be a rate such as 10, 0.5 or 10:50 (50 at once) (got \"1/s\")",
        ),
        (
            &["--tui", "--access-log", "-"],
            "--access-log - and --tui both need the terminal; write the log to a file",
        ),
        (
            &["--admin", "9090"],
            "--admin: must be an address with a port or a Unix socket, such as 127.0.0.1:9090, [::1]:9090 or unix:/run/tws-admin.sock (got \"9090\")",
        ),
        (
            &["--admin", "0.0.0.0:9090"],
            "--admin 0.0.0.0:9090: any machine could see which client downloads what; require passwords with --auth or --auth-file, or listen on 127.0.0.1",
        ),
        (
            &["--admin", "[::]:9090"],
            "--admin [::]:9090: any machine could see which client downloads what; require passwords with --auth or --auth-file, or listen on 127.0.0.1",
        ),
        (
            &["--drain-delay", "100000"],
            "--drain-delay: must be an integer between 0 and 86400 (got \"100000\")",
        ),
        (
            &["--bandwidth", "1MB"],
            "--bandwidth: must be a size such as 512 KiB, 100 MiB or 1 GiB (got \"1MB\")",
        ),
        (
            &["--bandwidth", "0"],
            "--bandwidth: must be at least 1 KiB per second (got \"0\")",
        ),
        (
            &["--bandwidth-connection", "1023 B"],
            "--bandwidth-connection: must be at least 1 KiB per second (got \"1023 B\")",
        ),
        (
            &["--trusted-proxy", "proxy.example"],
            "--trusted-proxy: must be a network or an address such as 10.0.0.0/8, 192.0.2.7 or ::1, or unix for peers on Unix sockets (got \"proxy.example\")",
        ),
        (
            &["--trusted-proxy=::1", "--forwarded-field=x-real-ip"],
            "--forwarded-field: must be x-forwarded-for or forwarded (got \"x-real-ip\")",
        ),
        (
            &["--forwarded-field=forwarded"],
            "--forwarded-field: no proxy is trusted; add --trusted-proxy",
        ),
        (
            &["--slow-log", "1s"],
            "--slow-log: must be an integer between 0 and 4294967295 (got \"1s\")",
        ),
        (
            &["--cors=a.test"],
            "--cors: must be an origin such as https://example.org, or * (got \"a.test\")",
        ),
        (
            &["-H", "foo"],
            "--header: must be a header field such as \"Cache-Control: no-cache\" (got \"foo\")",
        ),
        (
            &["-H", "etag: \"a\""],
            "--header: etag is set by the server; remove it",
        ),
        (
            &["--spa=../a"],
            "--spa: must be the name of a file below the root (got \"../a\")",
        ),
        (
            &["--upload-max", "1 GiB"],
            "--upload-max, --upload-overwrite and --upload-parents: uploads are off; add --upload",
        ),
        (
            &["--upload-overwrite"],
            "--upload-max, --upload-overwrite and --upload-parents: uploads are off; add --upload",
        ),
        (
            &["--upload", "--upload-max", "1 GB"],
            "--upload-max: must be a size such as 512 KiB, 100 MiB or 1 GiB (got \"1 GB\")",
        ),
        (
            &["--upload", "-b", "0.0.0.0"],
            "--upload with --bind 0.0.0.0: any machine could change files here; require passwords with --auth or --auth-file, or bind 127.0.0.1",
        ),
        (
            &["--upload", "-b", "::1", "-b", "::"],
            "--upload with --bind ::: any machine could change files here; require passwords with --auth or --auth-file, or bind 127.0.0.1",
        ),
    ];
    for (args, expected) in table {
        assert_eq!(
            settings(args).expect_err("a usage error"),
            *expected,
            "{args:?}"
        );
    }
}

#[test]
fn errors_and_debug_output_omit_passwords() {
    for store in [
        "postgre://ana:s3cret@h/d",
        "host=h password=s3cret",
        "sqlite://s3cret@h",
    ] {
        if let Err(error) = settings(&["--users", store]) {
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
    for url in [
        "postgres://ana:s3cret@h:1/d",
        "postgresql://h/d?user=ana&password=s3cret",
        "postgres://ana:s3cret",
    ] {
        let settings = settings(&["--users", url]).expect("a store");
        let store = settings.users.as_ref().expect("a store");
        let shown = format!("{settings:?} {store}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn bind_accepts_addresses_ports_names_and_sockets() {
    let of = |args: &[&str]| settings(args).map(|settings| settings.config.addresses);
    let v4 = Endpoint::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let v6 = Endpoint::Address(IpAddr::V6(Ipv6Addr::LOCALHOST));
    assert_eq!(of(&[]), Ok(vec![v4.clone()]));
    assert_eq!(of(&["-b", "::1"]), Ok(vec![v6.clone()]));
    assert_eq!(
        of(&["-b", "[::1]", "-b", "127.0.0.1", "-b", "::1"]),
        Ok(vec![v6, v4.clone()])
    );
    assert!(of(&["-b", "localhost"]).expect("addresses").contains(&v4));
    let socket = |text: &str| Endpoint::Socket(text.parse().expect("an address"));
    assert_eq!(
        of(&["-b", "127.0.0.2:80,[::1]:81", "-b", "unix:/run/tws.sock"]),
        Ok(vec![
            socket("127.0.0.2:80"),
            socket("[::1]:81"),
            Endpoint::Unix("/run/tws.sock".into())
        ])
    );
    let localhost = of(&["-b", "localhost:82"]).expect("addresses");
    assert!(localhost.contains(&socket("127.0.0.1:82")), "{localhost:?}");
}

#[test]
fn uploads_require_loopback_or_authentication() {
    let of = |args: &[&str]| {
        let site = settings(args).expect("settings").site;
        site.upload
            .map(|upload| (upload.max.map(Size::bytes), upload.overwrite))
    };
    assert_eq!(of(&[]), None);
    assert_eq!(
        of(&["--upload", "-b", "::1", "-b", "127.0.0.2"]),
        Some((None, false))
    );
    let all = ["--upload", "--upload-max=10MiB", "--upload-overwrite"];
    assert_eq!(of(&all), Some((Some(10 << 20), true)));
    let mapped = of(&["--upload", "--bind=::ffff:127.0.0.1"]);
    assert_eq!(mapped, Some((None, false)));
}

/// A proxy on this machine, or behind a Unix socket, serves clients of other machines.
#[test]
fn uploads_through_a_proxy_require_authentication() {
    for (args, flag) in [
        (&["--proxy-protocol"][..], "--proxy-protocol"),
        (&["--trusted-proxy=127.0.0.1"], "--trusted-proxy"),
        (&["--trusted-proxy=unix"], "--trusted-proxy"),
        (&["--bind=unix:s"], "--bind unix:s"),
        (&["--bind=127.0.0.1", "--bind=unix:s"], "--bind unix:s"),
        (&["--bind=0.0.0.0", "--proxy-protocol"], "--bind 0.0.0.0"),
    ] {
        let uploads = [args, &["--upload"]].concat();
        let error = settings(&uploads).expect_err(flag);
        let expected = format!("--upload with {flag}: ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("--auth-file"), "{error}");
        settings(args).expect(flag);
        settings(&[&uploads[..], &["--auth-file=users"]].concat()).expect(flag);
    }
}

#[test]
fn key_without_flag_is_in_the_certificate_file() {
    let of = |args: &[&str]| settings(args).map(|settings| settings.encryption);
    let pair = |a: &str, b: &str| (PathBuf::from(a), PathBuf::from(b));
    assert_eq!(of(&[]), Ok(Encryption::Off));
    assert_eq!(of(&["--tls-self-signed"]), Ok(Encryption::SelfSigned));
    let both = Encryption::Certificates(vec![pair("a", "a"), pair("b", "b")]);
    assert_eq!(of(&["--tls-cert=a", "--tls-cert=b"]), Ok(both));
    let apart = Encryption::Certificates(vec![pair("a", "k"), pair("b", "l")]);
    let args = ["--tls-cert=a", "--tls-key=k", "--tls-cert=b", "--tls-key=l"];
    assert_eq!(of(&args), Ok(apart));
}

#[test]
fn acme_implies_public_address_and_ports_unless_given() {
    let of = |args: &[&str]| {
        let settings = settings(&[&["--acme=a.example.org"], args].concat()).expect("valid");
        let addresses = settings.config.addresses.iter().map(ToString::to_string);
        let addresses: Vec<_> = addresses.filter(|text| text != "::").collect();
        let redirect = settings.redirect_http;
        (addresses.join(" "), settings.config.port, redirect)
    };
    let implied = Some(HttpRedirect::IfPossible);
    let at = |port| Some(HttpRedirect::Port(port));
    for (args, expected) in [
        (&[][..], ("0.0.0.0", 443, implied)),
        (&["-b", "192.0.2.1"], ("192.0.2.1", 443, implied)),
        (&["-b", "192.0.2.1:8443"], ("192.0.2.1:8443", 8000, None)),
        (&["-p", "8443"], ("0.0.0.0", 8443, None)),
        (&["8443"], ("0.0.0.0", 8443, None)),
        (&["--redirect-http"], ("0.0.0.0", 443, at(80))),
        (
            &["-p", "8443", "--redirect-http=8080"],
            ("0.0.0.0", 8443, at(8080)),
        ),
    ] {
        let expected = (expected.0.to_owned(), expected.1, expected.2);
        assert_eq!(of(args), expected, "{args:?}");
    }
    assert_eq!(settings(&[]).expect("valid").redirect_http, None);
}

#[test]
fn acme_takes_each_name_once_and_excludes_other_certificates() {
    let names = |args: &[&str]| {
        let settings = settings(args)?;
        Ok(settings
            .encryption
            .acme()
            .map_or(Vec::new(), |acme| acme.names.clone()))
    };
    let one = vec!["a.example.org".to_owned()];
    let two = vec!["a.example.org".to_owned(), "b.example.org".to_owned()];
    assert_eq!(names(&["--acme", "A.example.org,a.example.org"]), Ok(one));
    assert_eq!(
        names(&["--acme=a.example.org", "--acme", "b.example.org"]),
        Ok(two)
    );
    for off in ["off", "no", "false"] {
        assert_eq!(names(&["--acme", off]), Ok(Vec::new()));
    }
    for args in [
        &["--acme=a.example.org", "--tls-self-signed"][..],
        &["--acme=a.example.org", "--tls-cert=c"],
        &["--acme=a.example.org", "--bind=unix:s"],
        &["--acme=a.example.org,off"],
        &["--acme=localhost"],
        &["--acme"],
        &["--acme-email=a@b.test"],
        &["--acme-directory=staging"],
        &["--acme-ca=c"],
        &["--acme-profile=p"],
        &["--acme-eab=e"],
    ] {
        let error: String = names(args).expect_err("a usage error");
        assert!(error.starts_with("--acme"), "{args:?}: {error}");
    }
    let private = ["--acme=localhost", "--acme-directory=https://127.0.0.1/dir"];
    assert_eq!(names(&private), Ok(vec!["localhost".to_owned()]));
}

#[test]
fn access_log_defaults_to_stdout_unless_quiet_or_tui() {
    let of = |args: &[&str]| settings(args).map(|settings| settings.access_log.len());
    assert_eq!(of(&[]), Ok(1));
    assert_eq!(of(&["-q"]), Ok(0));
    assert_eq!(of(&["--tui"]), Ok(0));
    assert_eq!(of(&["--tui", "--access-log", "a.log"]), Ok(1));
    assert_eq!(of(&["-q", "--access-log", "-"]), Ok(1));
    assert_eq!(of(&["--access-log", "off"]), Ok(0));
    assert_eq!(of(&["--access-log", "-", "--access-log", "a.log"]), Ok(2));
    for [one, other] in [["a.log", "a.log"], ["a.log", "./a.log"], ["-", "-"]] {
        let error = of(&["--access-log", one, "--access-log", other]);
        let error = error.expect_err("the same destination twice");
        assert!(
            error.starts_with("--access-log: ") && error.contains("twice"),
            "{error}"
        );
    }
}

#[test]
fn host_names_are_checked_where_only_this_machine_connects() {
    use HostCheck::{LocalOnly, Named, Off};
    let table: &[(&[&str], HostCheck)] = &[
        (&[], LocalOnly),
        (&["-b", "127.0.0.2,::1"], LocalOnly),
        (&["-b", "127.0.0.1,unix:/run/a.sock"], LocalOnly),
        (&["-b", "unix:/run/a.sock"], Off),
        (&["-b", "0.0.0.0"], Off),
        (&["-b", "::"], Off),
        (&["-b", "127.0.0.1,192.0.2.1"], Off),
        (&["--trusted-proxy=127.0.0.1"], Off),
        (&["--trusted-proxy=unix"], Off),
        (&["--proxy-protocol"], Off),
        (&["--host-name=*"], Off),
        (&["--host-name=a.test,*"], Off),
        (&["--host-name=A.test"], Named),
        (&["--host-name=*.a.test", "-b", "0.0.0.0"], Named),
        (&["--host-name=a.test", "--trusted-proxy=unix"], Named),
    ];
    for (args, expected) in table {
        let settings = settings(args).expect("fine");
        assert_eq!(settings.host_check(), *expected, "{args:?}");
    }
    let names = settings(&["--host-name=A.test,*.b.test,a.test"])
        .expect("fine")
        .host_names();
    let names: Vec<_> = names.iter().map(HostName::as_str).collect();
    assert_eq!(names, ["a.test", "*.b.test"]);
    let certified = settings(&["--acme=a.example.org", "-b127.0.0.1"]).expect("fine");
    let names = certified.host_names();
    assert_eq!(
        names.iter().map(HostName::as_str).collect::<Vec<_>>(),
        ["a.example.org"]
    );
    for wrong in ["", "a.test:80", "http://a.test", "*a", "a."] {
        let error = settings(&["--host-name", wrong]).expect_err(wrong);
        assert!(error.contains("--host-name"), "{wrong}: {error}");
    }
}

#[test]
fn keep_alive_timeout_is_that_of_all_protocols() {
    let timeouts = |args: &[&str]| {
        let timeouts = settings(args).expect("valid flags").config.timeouts;
        (timeouts.keep_alive, timeouts.keep_alive_h2)
    };
    let seconds = std::time::Duration::from_secs;
    assert_eq!(timeouts(&[]), (seconds(10), seconds(60)));
    let same = (seconds(3), seconds(3));
    assert_eq!(timeouts(&["--keep-alive-timeout", "3"]), same);
    let args = ["--h2-keep-alive", "7"];
    assert_eq!(timeouts(&args), (seconds(10), seconds(7)));
    let args = ["--h2-keep-alive", "7", "--keep-alive-timeout", "3"];
    assert_eq!(timeouts(&args), (seconds(3), seconds(7)));
}

#[test]
fn streams_of_an_http2_connection_are_limited() {
    let streams = |args: &[&str]| {
        let settings = settings(args).expect("valid flags");
        settings.config.limits.h2_max_streams
    };
    assert_eq!(streams(&[]), 100);
    assert_eq!(streams(&["--h2-streams", "1"]), 1);
    assert_eq!(streams(&["--h2-streams", "1000"]), 1000);
    for wrong in ["0", "1001", "many"] {
        let error = settings(&["--h2-streams", wrong]).expect_err(wrong);
        assert!(error.contains("--h2-streams"), "{wrong}: {error}");
    }
}

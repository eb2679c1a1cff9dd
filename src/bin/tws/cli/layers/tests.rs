use std::fs;

use tempfile::TempDir;

use super::*;

/// A folder to serve with a file for --config beside it.
struct Place {
    folder: TempDir,
}

type Variables = &'static [(&'static str, &'static str)];

enum Source {
    Config,
    Root,
}

impl Place {
    fn new(source: &Source, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("site")).expect("a folder");
        let file = match source {
            Source::Config => "tws.toml",
            Source::Root => "site/.tws.toml",
        };
        fs::write(folder.path().join(file), text).expect("a file");
        Self { folder }
    }

    fn of(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<Layers, Vec<String>> {
        let config = self.folder.path().join("tws.toml");
        let config = config
            .exists()
            .then(|| format!("--config={}", config.display()));
        let root = format!("--directory={}", self.folder.path().join("site").display());
        let root = config.is_none().then_some(root);
        let args = args.iter().map(OsString::from);
        let given = config.into_iter().chain(root).map(OsString::from);
        let program = std::iter::once(OsString::from("tws"));
        let words = Words {
            args: program.chain(given).chain(args).collect(),
            variables: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            purpose: Purpose::Serving,
            listening: Listening::default(),
        };
        let texts = |mistakes: Vec<Mistake>| {
            let text = |mistake| match mistake {
                Mistake::Usage(text) | Mistake::Failure(text) => text,
            };
            mistakes.into_iter().map(text).collect()
        };
        match Layers::read(&words) {
            Ok(layers) if layers.mistakes.is_empty() => Ok(layers),
            Ok(layers) => Err(texts(layers.mistakes)),
            Err(Stop::Mistakes(mistakes)) => Err(texts(mistakes)),
            Err(Stop::Print(text)) => panic!("{text}"),
        }
    }
}

fn shown(flags: &Flags) -> String {
    let shown = format!("{flags:?}");
    // These two say where the file is.
    let (before, behind) = shown.split_once("config: ").expect("a field");
    let (_, behind) = behind.split_once(", no_site_file").expect("a field");
    before.split_once("index: ").expect("a field").1.to_owned() + behind
}

/// Some value that a flag takes, as words of a command line and of others.
fn example(arg: &Arg, long: &str) -> (Vec<String>, &'static str) {
    if matches!(arg.get_action(), ArgAction::Count) {
        return (vec![format!("--{long}"); 2], "2");
    }
    let values = [
        "/a",
        "yes",
        "7",
        "::1",
        "off",
        "content",
        "never",
        "sidecar",
        "json",
        "10 MiB",
        "a.html",
        "https://a.test",
        "sqlite:a.db",
        "A: b",
        "forwarded",
        "unix:/s",
    ];
    let fits = |value: &&str| {
        let word = format!("--{long}={value}");
        Flags::parse(&["tws".into(), word.into()], Purpose::Serving).is_ok()
    };
    let value = values.into_iter().find(fits);
    let value = value.unwrap_or_else(|| panic!("a value that --{long} takes is wanted here"));
    (vec![format!("--{long}={value}")], value)
}

#[test]
fn each_flag_has_a_variable_and_a_key_that_set_the_same() {
    let mut command = flags::command();
    command.build();
    let nothing = Place::new(&Source::Root, "");
    let unset = shown(&nothing.of(&[], &[]).expect("fine").flags);
    let mut keys = 0;
    for (arg, long) in flags::settings(&command) {
        if flags::key(long) == Key::Nowhere || long == "directory" {
            continue;
        }
        let (typed, value) = example(arg, long);
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let flag = nothing.of(&typed, &[]).expect("a flag");
        let flag = shown(&flag.flags);
        let variable = flags::variable(arg).expect("a name");
        let variable = nothing.of(&[], &[(&variable, value)]).expect("a variable");
        assert_eq!(shown(&variable.flags), flag, "--{long}");
        assert!(flag != unset, "--{long}={value}");
        let (Key::Beside(key) | Key::BesideInConfig(key)) = flags::key(long) else {
            continue;
        };
        let file = Place::new(&Source::Config, &format!("{key} = {value:?}\n"));
        let file = file.of(&[], &[]).expect("a key");
        assert_eq!(shown(&file.flags), flag, "{key}");
        keys += 1;
    }
    assert!(keys > 15, "only {keys} keys");
}

#[test]
fn the_first_that_names_a_setting_decides_it_alone() {
    type Said = &'static [&'static str];
    type Show = fn(&Layers) -> String;
    const PORT: Show = |layers| format!("{:?}", layers.flags.port);
    const BIND: Show = |layers| {
        let bind = layers.flags.bind.iter().flat_map(|bind| &bind.0);
        bind.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    const LOGS: Show = |layers| format!("{:?}", layers.flags.access_log);
    const SANDBOX: Show = |layers| format!("{}", !layers.flags.no_sandbox);
    const NOISE: Show = |layers| format!("{} {}", layers.flags.quiet, layers.flags.verbose);
    const FORMAT: Show = |layers| format!("{:?}", layers.flags.log_format);
    let table: &[(Show, Said, Variables, &str, &str)] = &[
        (PORT, &[], &[], "", "None"),
        (PORT, &[], &[], "port = 1", "Some(1)"),
        (PORT, &[], &[("TWS_PORT", "2")], "port = 1", "Some(2)"),
        (PORT, &["-p3"], &[("TWS_PORT", "2")], "port = 1", "Some(3)"),
        (PORT, &["3"], &[("TWS_PORT", "2")], "port = 1", "None"),
        (PORT, &[], &[("TWS_PORT", "")], "port = 1", "Some(1)"),
        // What is decided is not looked at.
        (
            PORT,
            &["-p3"],
            &[("TWS_PORT", "x")],
            "port = \"x\"",
            "Some(3)",
        ),
        (BIND, &[], &[], "bind = \"::1\"", "::1"),
        (
            BIND,
            &[],
            &[],
            "bind = [\"::1\", \"127.0.0.2\"]",
            "::1 127.0.0.2",
        ),
        (
            BIND,
            &[],
            &[("TWS_BIND", "::,127.0.0.3")],
            "bind = \"::1\"",
            ":: 127.0.0.3",
        ),
        (
            BIND,
            &["-b", "127.0.0.4"],
            &[("TWS_BIND", "::")],
            "bind = \"::1\"",
            "127.0.0.4",
        ),
        (BIND, &["-b::1,127.0.0.1"], &[], "", "::1 127.0.0.1"),
        (BIND, &[], &[], "bind = []", ""),
        (
            LOGS,
            &[],
            &[("TWS_ACCESS_LOG", "a,b\n-\n")],
            "",
            "[\"a,b\", \"-\"]",
        ),
        (
            LOGS,
            &[],
            &[],
            "access-log = [\"-\", \"/a\"]",
            "[\"-\", \"/a\"]",
        ),
        (
            LOGS,
            &["--access-log=off"],
            &[],
            "access-log = \"-\"",
            "[\"off\"]",
        ),
        (SANDBOX, &[], &[], "no-sandbox = true", "false"),
        (
            SANDBOX,
            &[],
            &[("TWS_NO_SANDBOX", "0")],
            "no-sandbox = true",
            "true",
        ),
        (
            SANDBOX,
            &["--no-sandbox"],
            &[("TWS_NO_SANDBOX", "no")],
            "",
            "false",
        ),
        (
            SANDBOX,
            &["--no-sandbox=no"],
            &[("TWS_NO_SANDBOX", "1")],
            "",
            "true",
        ),
        (NOISE, &[], &[], "verbose = 2", "false 2"),
        (
            NOISE,
            &[],
            &[("TWS_VERBOSE", "0")],
            "verbose = 2",
            "false 0",
        ),
        (NOISE, &["-q"], &[], "verbose = 2", "true 0"),
        (NOISE, &["-v"], &[("TWS_QUIET", "yes")], "", "false 1"),
        (NOISE, &["-q=no"], &[("TWS_QUIET", "yes")], "", "false 0"),
        (FORMAT, &[], &[], "log-format = \"json\"", "Json"),
        (
            FORMAT,
            &[],
            &[("TWS_LOG_FORMAT", "combined")],
            "log-format = \"json\"",
            "Combined",
        ),
        (
            FORMAT,
            &["--log-format=common"],
            &[],
            "log-format = \"json\"",
            "Common",
        ),
    ];
    for (show, args, variables, text, expected) in table {
        let place = Place::new(&Source::Config, text);
        let layers = place.of(args, variables);
        let layers = layers.unwrap_or_else(|why| panic!("{args:?} {variables:?} {text}: {why:?}"));
        assert_eq!(show(&layers), *expected, "{args:?} {variables:?} {text}");
    }
}

#[test]
fn mistakes_name_who_made_them() {
    let table: &[(Variables, Source, &str, &[&str])] = &[
        (
            &[("TWS_PORT", "x")],
            Source::Config,
            "",
            &["TWS_PORT: must be an integer between 0 and 65535 (got \"x\")"],
        ),
        (
            &[("TWS_HIDDEN", "maybe")],
            Source::Root,
            "",
            &["TWS_HIDDEN: must be yes or no (got \"maybe\")"],
        ),
        (
            &[("TWS_VERBOSE", "-1")],
            Source::Root,
            "",
            &["TWS_VERBOSE: must be an integer between 0 and 255"],
        ),
        (
            &[("TWS_PORT", "1\n2")],
            Source::Root,
            "",
            &["TWS_PORT: given more than once; give one value"],
        ),
        (
            &[("TWS_ACCESS_LOG", "off\n-")],
            Source::Root,
            "",
            &["TWS_ACCESS_LOG: off excludes other destinations; give only one of them"],
        ),
        (
            &[("TWS_USERS", "x")],
            Source::Root,
            "",
            &["TWS_USERS: must be a store such as sqlite:users.db or postgres://"],
        ),
        (
            &[],
            Source::Config,
            "\nport = 70000",
            &["tws.toml:2: port: must be an integer between 0 and 65535 (got \"70000\")"],
        ),
        (
            &[],
            Source::Config,
            "port = true",
            &["tws.toml:1: port: must be an integer between 0 and 65535 (got \"true\")"],
        ),
        (
            &[],
            Source::Config,
            "port = [1, 2]",
            &["tws.toml:1: port: given more than once; give one value"],
        ),
        (
            &[],
            Source::Config,
            "port = [[1]]",
            &["tws.toml:1: port: must be a string, a number, a boolean or an array of these"],
        ),
        (
            &[],
            Source::Config,
            "[port]\na = 1",
            &["tws.toml:1: port: must be a string, a number, a boolean or an array of these"],
        ),
        (
            &[],
            Source::Config,
            "prot = 80",
            &["tws.toml:1: prot: unknown key; did you mean port?"],
        ),
        (
            &[],
            Source::Config,
            "clean-url = true",
            &["clean-url: unknown key; did you mean clean-urls?"],
        ),
        (
            &[],
            Source::Config,
            "colour = 1",
            &[
                "colour: unknown key; the keys are index, clean-urls, ",
                "`tws --help`",
            ],
        ),
        (
            &[],
            Source::Config,
            "upload-max = '1 GiB'",
            &[":1: upload-max: unknown key; write it as max in [upload]"],
        ),
        (
            &[],
            Source::Config,
            "config = 'a'",
            &[":1: config: unknown key; "],
        ),
        (
            &[],
            Source::Config,
            "help = true",
            &[":1: help: unknown key; "],
        ),
        (
            &[],
            Source::Root,
            "bind = '::'",
            &[
                "site/.tws.toml:1: bind: not allowed in the file of a served folder",
                "--config",
            ],
        ),
        (
            &[],
            Source::Root,
            "no-sandbox = true",
            &["no-sandbox: not allowed in the file of a served folder"],
        ),
        (
            &[],
            Source::Root,
            "port = 'x'",
            &["site/.tws.toml:1: port: "],
        ),
    ];
    for (variables, source, text, expected) in table {
        let error = Place::new(source, text).of(&[], variables).err();
        let error = error.unwrap_or_else(|| panic!("{variables:?} {text:?} is fine"));
        assert_eq!(error.len(), 1, "{error:?}");
        for word in *expected {
            assert!(error[0].contains(word), "{word:?} in {error:?}");
        }
        assert!(!error[0].contains('\n'), "{error:?}");
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let place = Place::new(&Source::Config, "workers = 0\nprot = 1\nport = 80\n");
    let variables = [("TWS_BIND", "300.1.1.1.1"), ("TWS_PORT", "x")];
    assert_eq!(place.of(&[], &variables).err().expect("wrong").len(), 4);
}

#[test]
fn a_file_that_is_served_may_not_set_what_reaches_out() {
    let mut command = flags::command();
    command.build();
    for (arg, long) in flags::settings(&command) {
        let Key::BesideInConfig(key) = flags::key(long) else {
            continue;
        };
        let text = format!("{key} = 1");
        let error = Place::new(&Source::Root, &text).of(&[], &[]).err();
        assert!(error.is_some(), "{key} of {arg:?}");
    }
    let text = "port = 1\nworkers = 2\nmin-rate = 3\n";
    let layers = Place::new(&Source::Root, text).of(&[], &[]).expect("fine");
    assert_eq!(
        (layers.flags.port, layers.flags.min_rate),
        (Some(1), Some(3))
    );
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let text = "directory = 'site'\nauth-file = 'users'\nstate-dir = '/state'\n\
                access-log = ['a.log', '-']\n";
    let place = Place::new(&Source::Config, text);
    let layers = place.of(&[], &[]).expect("fine");
    let at = place.folder.path();
    assert_eq!(layers.root, at.join("site"));
    assert!(layers.root_was_named);
    assert_eq!(layers.flags.auth_file, Some(at.join("users")));
    assert_eq!(layers.flags.state_dir, Some("/state".into()));
    let logs: [OsString; 2] = [at.join("a.log").into(), "-".into()];
    assert_eq!(layers.flags.access_log, logs);
    let layers = place
        .of(&["other"], &[("TWS_DIRECTORY", "third")])
        .expect("fine");
    assert_eq!(layers.root, Path::new("other"));
    let layers = place.of(&[], &[("TWS_DIRECTORY", "third")]).expect("fine");
    assert_eq!(layers.root, Path::new("third"));
}

#[test]
fn which_file_is_read_is_one_setting() {
    let place = Place::new(&Source::Root, "port = 1");
    let port = |args: &[&str], variables: &[(&str, &str)]| {
        let layers = place.of(args, variables).map_err(|errors| errors.join(" "));
        layers.map(|layers| layers.flags.port)
    };
    assert_eq!(port(&[], &[]), Ok(Some(1)));
    assert_eq!(
        port(&["--no-site-file"], &[("TWS_CONFIG", "/none")]),
        Ok(None)
    );
    assert_eq!(port(&[], &[("TWS_NO_SITE_FILE", "1")]), Ok(None));
    assert_eq!(
        port(&["--no-site-file=no"], &[("TWS_NO_SITE_FILE", "1")]),
        Ok(Some(1))
    );
    let config = ["--config=/none"];
    let error = port(&config, &[("TWS_NO_SITE_FILE", "1")]).expect_err("not there");
    assert!(error.contains("/none"), "{error}");
    let both = [("TWS_CONFIG", "/none"), ("TWS_NO_SITE_FILE", "1")];
    let error = port(&[], &both).expect_err("both");
    assert!(error.contains("--config and --no-site-file"), "{error}");
}

#[test]
fn variables_that_are_nearly_settings_are_warned_of() {
    let place = Place::new(&Source::Root, "");
    let warnings = |name| place.of(&[], &[(name, "1")]).expect("fine").warnings;
    assert_eq!(
        warnings("TWS_PROT"),
        ["TWS_PROT: unknown environment variable; did you mean TWS_PORT?"]
    );
    assert!(warnings("TWS_UPGRADE").is_empty());
    assert!(warnings("tws_port").is_empty());
}

#[test]
fn passwords_are_not_repeated() {
    let url = "postgre://u:s3cret@h/d";
    for errors in [
        Place::new(&Source::Root, "").of(&[], &[("TWS_USERS", url)]),
        Place::new(&Source::Config, &format!("users = '{url}'")).of(&[], &[]),
        Place::new(&Source::Config, &format!("users-store = '{url}'")).of(&[], &[]),
        Place::new(&Source::Config, &format!("[users]\nstore = '{url}'")).of(&[], &[]),
    ] {
        let errors = errors.err().expect("wrong");
        assert!(!errors.concat().contains("s3cret"), "{errors:?}");
    }
}

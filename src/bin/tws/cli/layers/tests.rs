use std::fs;

use tempfile::TempDir;

use super::*;
use crate::cli::raw_args::Mode;

/// A folder to serve, and beside it a settings file for `--config`.
struct TestFolder {
    folder: TempDir,
}

type Variables = &'static [(&'static str, &'static str)];

enum FileKind {
    Config,
    Root,
}

impl TestFolder {
    fn new(kind: &FileKind, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("site")).expect("a folder");
        let file = match kind {
            FileKind::Config => "tws.toml",
            FileKind::Root => "site/.tws.toml",
        };
        fs::write(folder.path().join(file), text).expect("a file");
        Self { folder }
    }

    fn read(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<ConfigLayers, Vec<String>> {
        let config = self.folder.path().join("tws.toml");
        let config = config
            .exists()
            .then(|| format!("--config={}", config.display()));
        let root = format!("--directory={}", self.folder.path().join("site").display());
        let root = config.is_none().then_some(root);
        let typed = args.iter().map(OsString::from);
        let source = config.into_iter().chain(root).map(OsString::from);
        let program = std::iter::once(OsString::from("tws"));
        let args = RawArgs {
            args: program.chain(source).chain(typed).collect(),
            variables: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..RawArgs::default()
        };
        let texts = |errors: Vec<ConfigError>| {
            let texts = errors.iter().map(|error| error.text().to_owned());
            texts.collect()
        };
        match ConfigLayers::read(&args) {
            Ok(layers) if layers.errors.is_empty() => Ok(layers),
            Ok(layers) => Err(texts(layers.errors)),
            Err(Exit::Errors(errors)) => Err(texts(errors)),
            Err(Exit::Print(text)) => panic!("{text}"),
        }
    }
}

/// Returns the debug output of all flags but those that name the settings file and the root.
fn debug_output(flags: &Flags) -> String {
    let text = format!("{flags:?}");
    let (before, after) = text.split_once("config: ").expect("a field");
    let (_, after) = after.split_once(", no_site_file").expect("a field");
    before.split_once("index: ").expect("a field").1.to_owned() + after
}

/// Returns some value that a flag takes: as arguments, and as a variable or key has it.
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
        "10m",
        "a@b.test",
        "trash",
    ];
    let mut parser = FlagParser::new(Mode::Serve);
    let mut fits = |value: &&str| {
        let arg = format!("--{long}={value}");
        parser.check(&["tws".into(), arg.into()]).is_ok()
    };
    let value = values.into_iter().find(|value| fits(value));
    let value = value.unwrap_or_else(|| panic!("no example fits --{long}; add one"));
    (vec![format!("--{long}={value}")], value)
}

#[test]
fn flag_variable_and_key_set_the_same() {
    let mut command = command::serve();
    command.build();
    let empty = TestFolder::new(&FileKind::Root, "");
    let unset = debug_output(&empty.read(&[], &[]).expect("layers").flags);
    let mut keys = 0;
    for (arg, long) in command::settings(&command) {
        if flags::key(long) == FileKey::NotInFile || long == "directory" {
            continue;
        }
        let (typed, value) = example(arg, long);
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let flag = empty.read(&typed, &[]).expect("a flag");
        let flag = debug_output(&flag.flags);
        let variable = command::variable(arg).expect("a name");
        let variable = empty.read(&[], &[(&variable, value)]).expect("a variable");
        assert_eq!(debug_output(&variable.flags), flag, "--{long}");
        assert!(flag != unset, "--{long}={value}");
        let FileKey::ConfigOnly(key) = flags::key(long) else {
            continue;
        };
        let file = TestFolder::new(&FileKind::Config, &format!("{key} = {value:?}\n"));
        let file = file.read(&[], &[]).expect("a key");
        assert_eq!(debug_output(&file.flags), flag, "{key}");
        keys += 1;
    }
    assert!(keys > 15, "only {keys} keys");
}

#[test]
fn highest_layer_that_names_a_setting_decides_it_alone() {
    type Args = &'static [&'static str];
    type Show = fn(&ConfigLayers) -> String;
    const PORT: Show = |layers| format!("{:?}", layers.flags.port);
    const BIND: Show = |layers| {
        let bind = layers.flags.bind.iter().flat_map(|bind| &bind.0);
        bind.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    const LOGS: Show = |layers| format!("{:?}", layers.flags.access_log);
    const SANDBOX: Show = |layers| format!("{}", !layers.flags.no_sandbox);
    const NOISE: Show = |layers| format!("{} {}", layers.flags.quiet, layers.flags.verbose);
    const FORMAT: Show = |layers| format!("{:?}", layers.flags.log_format);
    let table: &[(Show, Args, Variables, &str, &str)] = &[
        (PORT, &[], &[], "", "None"),
        (PORT, &[], &[], "port = 1", "Some(1)"),
        (PORT, &[], &[("TWS_PORT", "2")], "port = 1", "Some(2)"),
        (PORT, &["-p3"], &[("TWS_PORT", "2")], "port = 1", "Some(3)"),
        (PORT, &["3"], &[("TWS_PORT", "2")], "port = 1", "None"),
        (PORT, &[], &[("TWS_PORT", "")], "port = 1", "Some(1)"),
        // A value that a higher layer overrides is not parsed.
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
        let folder = TestFolder::new(&FileKind::Config, text);
        let layers = folder.read(args, variables);
        let layers = layers.unwrap_or_else(|why| panic!("{args:?} {variables:?} {text}: {why:?}"));
        assert_eq!(show(&layers), *expected, "{args:?} {variables:?} {text}");
    }
}

#[test]
fn errors_name_the_variable_or_the_line_of_the_file() {
    let table: &[(Variables, FileKind, &str, &[&str])] = &[
        (
            &[("TWS_PORT", "x")],
            FileKind::Config,
            "",
            &["TWS_PORT: must be an integer between 0 and 65535 (got \"x\")"],
        ),
        (
            &[("TWS_HIDDEN", "maybe")],
            FileKind::Root,
            "",
            &["TWS_HIDDEN: must be yes or no (got \"maybe\")"],
        ),
        (
            &[("TWS_VERBOSE", "-1")],
            FileKind::Root,
            "",
            &["TWS_VERBOSE: must be an integer between 0 and 255"],
        ),
        (
            &[("TWS_PORT", "1\n2")],
            FileKind::Root,
            "",
            &["TWS_PORT: given more than once; give one value"],
        ),
        (
            &[("TWS_ACCESS_LOG", "off\n-")],
            FileKind::Root,
            "",
            &["TWS_ACCESS_LOG: off excludes other destinations; give only one of them"],
        ),
        (
            &[("TWS_USERS", "x")],
            FileKind::Root,
            "",
            &["TWS_USERS: must be a store such as sqlite:users.db or postgres://"],
        ),
        (
            &[],
            FileKind::Config,
            "\nport = 70000",
            &["tws.toml:2: port: must be an integer between 0 and 65535 (got \"70000\")"],
        ),
        (
            &[],
            FileKind::Config,
            "port = true",
            &["tws.toml:1: port: must be an integer between 0 and 65535 (got \"true\")"],
        ),
        (
            &[],
            FileKind::Config,
            "access-log = true",
            &["tws.toml:1: access-log: must be a path in quotes"],
        ),
        (
            &[],
            FileKind::Config,
            "bind = ['127.0.0.1', 8080]",
            &[
                "tws.toml:1: bind: must be an address (got \"8080\"); ",
                "127.0.0.1:8080",
            ],
        ),
        (
            &[],
            FileKind::Config,
            "port = [1, 2]",
            &["tws.toml:1: port: given more than once; give one value"],
        ),
        (
            &[],
            FileKind::Config,
            "port = [[1]]",
            &["tws.toml:1: port: must be a string, a number, a boolean or an array of these"],
        ),
        (
            &[],
            FileKind::Config,
            "[port]\na = 1",
            &["tws.toml:1: port: must be a string, a number, a boolean or an array of these"],
        ),
        (
            &[],
            FileKind::Config,
            "prot = 80",
            &["tws.toml:1: prot: unknown key; did you mean port?"],
        ),
        (
            &[],
            FileKind::Config,
            "clean-url = true",
            &["clean-url: unknown key; did you mean clean-urls?"],
        ),
        (
            &[],
            FileKind::Config,
            "colour = 1",
            &[
                "colour: unknown key; the keys are index, clean-urls, ",
                "`tws --help`",
            ],
        ),
        (
            &[],
            FileKind::Config,
            "upload-max = '1 GiB'",
            &[":1: upload-max: unknown key; write it as max in [upload]"],
        ),
        (
            &[],
            FileKind::Config,
            "config = 'a'",
            &[":1: config: unknown key; "],
        ),
        (
            &[],
            FileKind::Config,
            "help = true",
            &[":1: help: unknown key; "],
        ),
        (
            &[],
            FileKind::Config,
            "[[header]]\npath = '/*'\nX-A = 'a'\nauth_file = 'users'",
            &["tws.toml:4: auth_file: a setting, ", "move it above"],
        ),
        (
            &[],
            FileKind::Config,
            "[[host]]\nnames = ['a']\nroot = 'a'\n[[host.header]]\npath = '/*'\nport = '80'",
            &["tws.toml:6: port: a setting, "],
        ),
        (
            &[],
            FileKind::Config,
            "[media-types]\nport = 'text/plain'\ndirectory = 'srv/www'",
            &["tws.toml:3: directory: a setting, "],
        ),
        (
            &[],
            FileKind::Root,
            "bind = '::'",
            &[
                "site/.tws.toml:1: bind: not allowed in the file of a served folder",
                "--config",
            ],
        ),
        (
            &[],
            FileKind::Root,
            "no-sandbox = true",
            &["no-sandbox: not allowed in the file of a served folder"],
        ),
        (
            &[],
            FileKind::Root,
            "hidden = true\nport = 80",
            &["site/.tws.toml:2: port: not allowed", "--config"],
        ),
        (
            &[],
            FileKind::Root,
            "[[host]]\nnames = ['*.a.test']\nroot = '../..'",
            &["site/.tws.toml:3: root: ", "--config"],
        ),
    ];
    for (variables, source, text, expected) in table {
        let error = TestFolder::new(source, text).read(&[], variables).err();
        let error = error.unwrap_or_else(|| panic!("{variables:?} {text:?} is accepted"));
        assert_eq!(error.len(), 1, "{error:?}");
        for word in *expected {
            assert!(error[0].contains(word), "{word:?} in {error:?}");
        }
        assert!(!error[0].contains('\n'), "{error:?}");
    }
}

#[test]
fn errors_of_all_layers_are_collected() {
    let folder = TestFolder::new(&FileKind::Config, "workers = 0\nprot = 1\nport = 80\n");
    let variables = [("TWS_BIND", "300.1.1.1.1"), ("TWS_PORT", "x")];
    assert_eq!(folder.read(&[], &variables).err().expect("errors").len(), 4);
}

#[test]
fn file_in_served_folder_with_config_only_key_is_rejected() {
    let mut command = command::serve();
    command.build();
    for (arg, long) in command::settings(&command) {
        let FileKey::ConfigOnly(key) = flags::key(long) else {
            continue;
        };
        let text = format!("{key} = 1");
        let error = TestFolder::new(&FileKind::Root, &text).read(&[], &[]).err();
        assert!(error.is_some(), "{key} of {arg:?}");
    }
    for key in [
        "port",
        "workers",
        "max-connections",
        "bandwidth",
        "min-rate",
        "drain-timeout",
    ] {
        assert_eq!(flags::key(key), FileKey::ConfigOnly(key));
    }
}

#[test]
fn paths_in_config_file_are_relative_to_it() {
    let text = "directory = 'site'\nauth-file = 'users'\nstate-dir = '/state'\n\
                access-log = ['a.log', '-']\n";
    let folder = TestFolder::new(&FileKind::Config, text);
    let layers = folder.read(&[], &[]).expect("layers");
    let at = folder.folder.path();
    assert_eq!(layers.root, at.join("site"));
    assert!(layers.root_is_explicit);
    assert_eq!(layers.flags.auth_file, Some(at.join("users")));
    assert_eq!(layers.flags.state_dir, Some("/state".into()));
    let logs: [OsString; 2] = [at.join("a.log").into(), "-".into()];
    assert_eq!(layers.flags.access_log, logs);
    let layers = folder
        .read(&["other"], &[("TWS_DIRECTORY", "third")])
        .expect("layers");
    assert_eq!(layers.root, Path::new("other"));
    let layers = folder
        .read(&[], &[("TWS_DIRECTORY", "third")])
        .expect("layers");
    assert_eq!(layers.root, Path::new("third"));
}

#[test]
fn higher_layer_decides_which_file_is_read() {
    let folder = TestFolder::new(&FileKind::Root, "hidden = true");
    let hidden = |args: &[&str], variables: &[(&str, &str)]| {
        let layers = folder
            .read(args, variables)
            .map_err(|errors| errors.join(" "));
        layers.map(|layers| layers.site.hidden)
    };
    assert_eq!(hidden(&[], &[]), Ok(true));
    assert_eq!(
        hidden(&["--no-site-file"], &[("TWS_CONFIG", "/none")]),
        Ok(false)
    );
    assert_eq!(hidden(&[], &[("TWS_NO_SITE_FILE", "1")]), Ok(false));
    assert_eq!(
        hidden(&["--no-site-file=no"], &[("TWS_NO_SITE_FILE", "1")]),
        Ok(true)
    );
    let config = ["--config=/none"];
    let error = hidden(&config, &[("TWS_NO_SITE_FILE", "1")]).expect_err("no such file");
    assert!(error.contains("/none"), "{error}");
    let both = [("TWS_CONFIG", "/none"), ("TWS_NO_SITE_FILE", "1")];
    let error = hidden(&[], &both).expect_err("an error");
    assert!(error.contains("--config and --no-site-file"), "{error}");
}

#[test]
fn misspelt_variable_is_warned_of() {
    let folder = TestFolder::new(&FileKind::Root, "");
    let warnings = |name| folder.read(&[], &[(name, "1")]).expect("layers").warnings;
    assert_eq!(
        warnings("TWS_PROT"),
        ["TWS_PROT: unknown environment variable; did you mean TWS_PORT?"]
    );
    assert!(warnings("TWS_UPGRADE").is_empty());
    assert!(warnings("tws_port").is_empty());
}

#[test]
fn errors_omit_passwords() {
    let url = "postgre://u:s3cret@h/d";
    for errors in [
        TestFolder::new(&FileKind::Root, "").read(&[], &[("TWS_USERS", url)]),
        TestFolder::new(&FileKind::Config, &format!("users = '{url}'")).read(&[], &[]),
        TestFolder::new(&FileKind::Config, &format!("users-store = '{url}'")).read(&[], &[]),
        TestFolder::new(&FileKind::Config, &format!("[users]\nstore = '{url}'")).read(&[], &[]),
    ] {
        let errors = errors.err().expect("errors");
        assert!(!errors.concat().contains("s3cret"), "{errors:?}");
    }
}

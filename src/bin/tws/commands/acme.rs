//! `tws acme`: shows the automatic certificates, has the running server renew one, revokes one.
//!
//! It finds everything in the state directory, which it shares with the server. So no listener is needed
//! for it, and the permissions of the folder say which users may use it.

#[cfg(feature = "acme")]
use enabled::run_with;

use std::process::ExitCode;

use crate::cli::{Exit, RawArgs, Settings};

/// Carries out the action.
///
/// # Errors
///
/// [`Exit::Print`] for `--help`, [`Exit::Errors`] if the action fails.
pub(crate) fn run(args: &RawArgs) -> Result<ExitCode, Exit> {
    let settings = Settings::read(args)?;
    run_with(&settings)
}

#[cfg(not(feature = "acme"))]
fn run_with(_: &Settings) -> Result<ExitCode, Exit> {
    let text = "acme: this tws was built without the feature acme; rebuild it with --features acme";
    Err(tws::Error::Setting(text.to_owned()).into())
}

#[cfg(feature = "acme")]
mod enabled {
    use std::fmt::Write as _;
    use std::path::Path;
    use std::process::ExitCode;
    use std::thread;
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};
    use tws::Error;

    use crate::acme::{
        AcmeError, CaRoots, CaStore, CertificateInfo, Client, IdentityStore, RenewalPlan, date,
        unix_now,
    };
    use crate::cli::{AcmeAction, AcmeRequest, Exit, OutputFormat, Settings};
    use crate::confinement::state_dir::StateDir;
    use crate::services::acme::ONE_ORDER_PER_HOUR;
    use crate::terminal::stdio::{self, one_line};

    /// How long the running server may take to renew a certificate: several minutes if it has to wait
    /// for the certificate authority.
    const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10 * 60);

    /// The time between two looks at what it has done.
    const POLL_INTERVAL: Duration = Duration::from_millis(200);

    /// A certificate, and the certificate authority it is from.
    struct Selected {
        ca: CaStore,
        identity: IdentityStore,
    }

    /// The result of an action for one name.
    struct ActionResult {
        name: String,
        text: Result<String, String>,
    }

    pub(super) fn run_with(settings: &Settings) -> Result<ExitCode, Exit> {
        let Some(request) = &settings.acme_request else {
            return Ok(ExitCode::SUCCESS);
        };
        let folder = StateDir::of(settings).certificates()?;
        let selected = select(settings, request, &folder)?;
        let results = match request.action {
            AcmeAction::Status => return status(&selected, &folder, request.format),
            AcmeAction::Renew => renew(&selected),
            AcmeAction::Revoke => match &selected[..] {
                [one] => vec![ActionResult::of(one, revoke(one))],
                [] => vec![],
                several => {
                    let names: Vec<_> = several.iter().map(|it| it.identity.name()).collect();
                    let text = format!(
                        "revoke: name the certificate, one of {}; if several certificate authorities \
                         have issued one, add --acme-directory",
                        names.join(", ")
                    );
                    return Err(Exit::usage(text));
                }
            },
        };
        if results.is_empty() {
            return Err(no_certificates_in(&folder).into());
        }
        Ok(print(&results, request.format))
    }

    /// Returns the certificates that the action is about.
    fn select(
        settings: &Settings,
        request: &AcmeRequest,
        folder: &Path,
    ) -> Result<Vec<Selected>, Error> {
        let state_dir = folder.parent().unwrap_or(Path::new("."));
        let acme = settings.encryption.acme();
        let directory = acme.map(|acme| &acme.directory);
        let directory = directory.or(settings.acme_directory.as_ref());
        let cas = match directory {
            Some(directory) => vec![CaStore::new(state_dir, directory.url())],
            None => CaStore::all(state_dir),
        };
        let mut selected = Vec::new();
        for ca in cas {
            let mut identities = ca.identities();
            for name in acme.map_or(&[][..], |acme| &acme.names) {
                if !identities.iter().any(|it| it.name() == name) {
                    identities.push(ca.identity(name));
                }
            }
            for identity in identities {
                let ca = ca.clone();
                selected.push(Selected { ca, identity });
            }
        }
        let Some(name) = &request.name else {
            return Ok(selected);
        };
        selected.retain(|it| it.identity.name() == name);
        if selected.is_empty() {
            return Err(Error::Setting(format!(
                "acme: there is no certificate for {name} in {}; name the folder of the server with \
                 --state-dir",
                folder.display()
            )));
        }
        Ok(selected)
    }

    fn no_certificates_in(folder: &Path) -> Error {
        Error::Setting(format!(
            "acme: there are no certificates in {}; name the folder of the server with --state-dir",
            folder.display()
        ))
    }

    fn status(
        selected: &[Selected],
        folder: &Path,
        format: OutputFormat,
    ) -> Result<ExitCode, Exit> {
        let all: Result<Vec<Value>, Error> = selected.iter().map(status_of).collect();
        let all = all?;
        let text = match format {
            OutputFormat::Json => format!("{:#}\n", Value::from(all)),
            OutputFormat::Text if all.is_empty() => {
                format!(
                    "no certificates in {}\n",
                    one_line(&folder.display().to_string())
                )
            }
            OutputFormat::Text => all.iter().map(status_text).collect(),
        };
        Ok(stdio::print(text.as_bytes()))
    }

    fn status_of(selected: &Selected) -> Result<Value, Error> {
        let Selected { ca, identity } = selected;
        let pem = identity.read_certificate()?;
        let info = pem.as_deref().and_then(CertificateInfo::from_pem);
        let state = identity.read_state()?;
        let directory = ca.read_ca()?.map(|ca| ca.directory);
        let validity = info.as_ref().map(|info| info.validity);
        let plan = state.plan.as_ref();
        let plan = plan.filter(|plan| info.as_ref().is_some_and(|info| plan.is_for(info)));
        let condition = match validity {
            None => "missing",
            Some(_) if state.is_revoked => "revoked",
            Some(validity) if validity.not_after <= unix_now() => "expired",
            Some(_) => "valid",
        };
        Ok(json!({
            "name": identity.name(),
            "directory": directory,
            "state": condition,
            "not_before": validity.map(|validity| validity.not_before),
            "not_after": validity.map(|validity| validity.not_after),
            "renew_at": plan.map(|plan| plan.renew_at),
            "renewal_suggested": plan.is_some_and(RenewalPlan::is_suggested),
            "failures": state.failures,
            "next_attempt": state.next_attempt,
            "last_error": state.last_failure.as_ref().map(|failure| json!({
                "at": failure.at, "kind": failure.kind, "message": failure.message,
            })),
            "order_pending": state.has_order(),
            "server_running": ca.is_running().ok(),
        }))
    }

    fn status_text(status: &Value) -> String {
        let time = |name: &str| status[name].as_i64().map(date);
        let name = one_line(status["name"].as_str().unwrap_or_default());
        let directory = one_line(status["directory"].as_str().unwrap_or("unknown"));
        let mut text = format!("{name}: ");
        let until = time("not_after").unwrap_or_default();
        let _ = match status["state"].as_str() {
            Some("valid") => writeln!(text, "valid until {until}, from {directory}"),
            Some("missing") => writeln!(text, "no certificate yet from {directory}"),
            Some(other) => writeln!(text, "{other} (valid until {until}), from {directory}"),
            None => writeln!(text),
        };
        if let Some(renew_at) = time("renew_at") {
            let why = match status["renewal_suggested"].as_bool() {
                Some(true) => "as the certificate authority suggests",
                _ => "two thirds of its lifetime",
            };
            let _ = writeln!(text, "  renewed from {renew_at}, {why}");
        }
        let error = &status["last_error"];
        if let Some(message) = error["message"].as_str() {
            let at = error["at"].as_i64().map(date).unwrap_or_default();
            let _ = writeln!(text, "  failed at {at}: {}", one_line(message));
            if let Some(next) = time("next_attempt") {
                let is_unreachable = error["kind"] == "unreachable";
                let why = if is_unreachable {
                    String::new()
                } else {
                    format!(": {ONE_ORDER_PER_HOUR}")
                };
                let _ = writeln!(text, "  next attempt at {next}{why}");
            }
        }
        if status["server_running"] == Value::Bool(false) {
            let _ = writeln!(text, "  no server is running that renews it");
        }
        text
    }

    /// Asks the running server, and waits for the results.
    fn renew(selected: &[Selected]) -> Vec<ActionResult> {
        let begun = selected.iter().map(|it| (it, request_renewal(it)));
        // All are requested before the first is waited for.
        let begun: Vec<_> = begun.collect();
        let end = Instant::now() + RENEWAL_TIMEOUT;
        let results = begun.into_iter().map(|(it, before)| {
            let text = before.and_then(|before| wait_for_renewal(it, &before, end));
            ActionResult::of(it, text)
        });
        results.collect()
    }

    /// Returns the present certificate.
    fn request_renewal(selected: &Selected) -> Result<Option<Vec<u8>>, String> {
        let Selected { ca, identity } = selected;
        let request = || -> Result<_, Error> {
            if !ca.is_running()? {
                return Err(Error::Setting(format!(
                    "no running tws uses {}; start it, and it renews when that is due",
                    ca.folder().display()
                )));
            }
            let before = identity.read_certificate()?;
            identity.request_renewal()?;
            Ok(before)
        };
        request().map_err(|error| error.to_string())
    }

    fn wait_for_renewal(
        selected: &Selected,
        before: &Option<Vec<u8>>,
        end: Instant,
    ) -> Result<String, String> {
        let Selected { ca, identity } = selected;
        let failed = |error: Error| error.to_string();
        while identity.is_renewal_requested() {
            if Instant::now() >= end {
                return Err("the server has not renewed it in time; see its log".to_owned());
            }
            if !ca.is_running().map_err(failed)? {
                identity.remove_renewal_request().map_err(failed)?;
                return Err("the server has ended; see its log".to_owned());
            }
            thread::sleep(POLL_INTERVAL);
        }
        let after = identity.read_certificate().map_err(failed)?;
        let info = after.as_deref().and_then(CertificateInfo::from_pem);
        if after != *before
            && let Some(info) = info
        {
            return Ok(format!(
                "renewed, valid until {}",
                date(info.validity.not_after)
            ));
        }
        let state = identity.read_state().map_err(failed)?;
        let reason = state.last_failure.map(|failure| failure.message);
        let next = state.next_attempt.map(|next| {
            format!(
                "; the next attempt is at {}: {ONE_ORDER_PER_HOUR}",
                date(next)
            )
        });
        Err(reason.unwrap_or_else(|| "not renewed".to_owned()) + &next.unwrap_or_default())
    }

    fn revoke(selected: &Selected) -> Result<String, String> {
        let Selected { ca, identity } = selected;
        let revoke = || -> Result<String, AcmeError> {
            let invalid = |text: String| AcmeError::State(Error::Setting(text));
            let Some(_lock) = identity.try_lock()? else {
                return Err(invalid("it is being renewed; try again".to_owned()));
            };
            let pem = identity.read_certificate()?;
            let pem = pem.ok_or_else(|| invalid("there is no certificate yet".to_owned()))?;
            let file = ca.read_ca()?;
            let file = file.ok_or_else(|| {
                let folder = ca.folder().display();
                invalid(format!("{folder} does not name a certificate authority"))
            })?;
            let roots = match ca.read_roots()? {
                Some(pem) => CaRoots::from_pem(&pem, ca.folder())?,
                None => CaRoots::Public,
            };
            let mut client = Client::new(&file.directory, &roots);
            client.open_known_account(ca)?;
            client.revoke(&pem)?;
            let mut state = identity.read_state()?;
            state.is_revoked = true;
            state.next_attempt = state.next_attempt.filter(|_| state.failures > 0);
            identity.write_state(&state)?;
            let next = if ca.is_running()? {
                identity.request_renewal()?;
                "the server obtains another one"
            } else {
                "the next server obtains another one"
            };
            Ok(format!("revoked; {next}"))
        };
        revoke().map_err(|error| error.to_string())
    }

    impl ActionResult {
        fn of(selected: &Selected, text: Result<String, String>) -> Self {
            let name = selected.identity.name().to_owned();
            Self { name, text }
        }
    }

    fn print(results: &[ActionResult], format: OutputFormat) -> ExitCode {
        let json = |result: &ActionResult| {
            let (is_done, text) = match &result.text {
                Ok(text) => (true, text),
                Err(text) => (false, text),
            };
            json!({"name": result.name, "done": is_done, "message": text})
        };
        let code = match format {
            OutputFormat::Json => {
                let all: Vec<_> = results.iter().map(json).collect();
                stdio::print(format!("{:#}\n", Value::from(all)).as_bytes())
            }
            OutputFormat::Text => {
                for ActionResult { name, text } in results {
                    match text {
                        Ok(text) => stdio::print_lossy(&format!("{name}: {}\n", one_line(text))),
                        Err(text) => stdio::eprint_error(&format!("{name}: {text}")),
                    }
                }
                ExitCode::SUCCESS
            }
        };
        if results.iter().all(|result| result.text.is_ok()) {
            code
        } else {
            ExitCode::FAILURE
        }
    }
}

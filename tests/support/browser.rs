//! A browser for tests of pages.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::client::{Client, TIMEOUT};
use super::{ChildProcess, wait_until};

fn start_driver() -> Option<(ChildProcess, u16)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdout(Stdio::piped());
    let mut driver = ChildProcess::start(&mut command);
    let stdout = driver.stdout.take().expect("stdio pipe");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, port) = line.split_once("successfully on port ")?;
        port.trim_end_matches('.').parse::<u16>().ok()
    });
    match port {
        Some(port) => Some((driver, port)),
        None => {
            driver.wait_for_exit();
            None
        }
    }
}

/// Chromium, controlled by chromedriver over the WebDriver protocol (W3C WebDriver §14).
pub(crate) struct Browser {
    _driver: ChildProcess,
    address: SocketAddr,
    session: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        Self::with_preferences(&json!({}))
    }

    /// Starts a browser that runs no scripts of pages.
    pub(crate) fn without_scripts() -> Self {
        const BLOCKED: u8 = 2;
        Self::with_preferences(&json!({
            "profile.managed_default_content_settings.javascript": BLOCKED
        }))
    }

    fn with_preferences(preferences: &Value) -> Self {
        // chromedriver needs the same port on IPv4 and IPv6, and exits if one of them is in use.
        let (driver, port) = (0..10)
            .find_map(|_| start_driver())
            .expect("port in the output of chromedriver");
        let mut browser = Self {
            _driver: driver,
            address: ([127, 0, 0, 1], port).into(),
            session: String::new(),
        };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
        ];
        // A self-signed certificate is not trusted by any client.
        let options = json!({
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments, "prefs": preferences }
        });
        let capabilities = json!({ "capabilities": { "alwaysMatch": options } });
        let result = browser.command("POST", "/session", &capabilities);
        browser.session = result["sessionId"].as_str().expect("session id").to_owned();
        browser
    }

    fn command(&self, method: &str, path: &str, content: &Value) -> Value {
        let content = content.to_string();
        let mut client = Client::connect(self.address);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{content}",
            self.address,
            content.len()
        ));
        let response = client.response();
        let mut result: Value = serde_json::from_str(&response.text()).expect("parse JSON");
        assert_eq!(response.status, 200, "{method} {path}: {result}");
        result["value"].take()
    }

    pub(crate) fn open(&self, url: &str) {
        let path = format!("/session/{}/url", self.session);
        self.command("POST", &path, &json!({ "url": url }));
    }

    /// Runs a function body in the page and returns its result.
    pub(crate) fn script(&self, script: &str) -> Value {
        let path = format!("/session/{}/execute/sync", self.session);
        self.command("POST", &path, &json!({ "script": script, "args": [] }))
    }

    pub(crate) fn click(&self, selector: &str) {
        // Without `instant` the page scrolls smoothly, and the click can miss the element.
        self.script(&format!(
            "document.querySelector('{selector}').scrollIntoView({{ behavior: 'instant', block: 'center' }})"
        ));
        let find = format!("/session/{}/element", self.session);
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.command("POST", &find, &wanted);
        let element = found.as_object().and_then(|found| found.values().next());
        let element = element.and_then(Value::as_str).expect("element found");
        let click = format!("{find}/{element}/click");
        self.command("POST", &click, &json!({}));
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) {
        let path = format!("/session/{}/goog/cdp/execute", self.session);
        self.command(
            "POST",
            &path,
            &json!({ "cmd": command, "params": parameters }),
        );
    }

    /// Sets the size of the page in CSS pixels, and the preferred colours.
    pub(crate) fn emulate(&self, width: u32, height: u32, scheme: &str) {
        let screen = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
        let media = json!({
            "features": [{ "name": "prefers-color-scheme", "value": scheme }]
        });
        self.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// Presses keys, in the element that has the focus.
    pub(crate) fn press(&self, keys: &[&str]) {
        let event = |kind: &str, key: &str| json!({ "type": kind, "value": key });
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| [event("keyDown", key), event("keyUp", key)])
            .collect();
        let keyboard = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        let path = format!("/session/{}/actions", self.session);
        self.command("POST", &path, &keyboard);
    }

    /// Runs the script until its result is neither null nor false.
    pub(crate) fn wait_for(&self, script: &str) -> Value {
        let mut result = Value::Null;
        wait_until(script, TIMEOUT, || {
            result = self.script(script);
            result != Value::Null && result != Value::Bool(false)
        });
        result
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let path = format!("/session/{}", self.session);
            self.command("DELETE", &path, &json!({}));
        }
    }
}

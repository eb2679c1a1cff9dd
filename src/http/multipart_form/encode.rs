//! Forms with files as the content of requests, as browsers send them. For calls of a handler without a
//! connection.

use memchr::memmem;

use super::{MEDIA_TYPE, Request};

impl Request<'static> {
    /// Sets the content to a form with files, and its Content-Type. A part is a name, the name of its file if
    /// it is one, and the content.
    ///
    /// ```
    /// use tws::Request;
    ///
    /// let request = Request::post("/", "")
    ///     .with_form_data(&[("title", None, b"Hi"), ("file", Some("a.txt"), b"four")]);
    /// # let mut form = request.form_data()?;
    /// # let mut part = form.next_part()?.expect("a part");
    /// # assert_eq!(part.text(9)?, "Hi");
    /// # Ok::<_, tws::FormError>(())
    /// ```
    pub fn with_form_data(self, parts: &[(&str, Option<&str>, &[u8])]) -> Self {
        let boundary = unused_boundary(parts);
        let mut content = Vec::new();
        for (name, filename, part) in parts {
            let name = escape(name);
            let filename = filename.map(|name| format!("; filename=\"{}\"", escape(name)));
            let filename = filename.unwrap_or_default();
            let head = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n"
            );
            content.extend_from_slice(head.as_bytes());
            content.extend_from_slice(part);
            content.extend_from_slice(b"\r\n");
        }
        content.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let media_type = format!("{MEDIA_TYPE}; boundary={boundary}");
        self.with_content(content)
            .with_header("Content-Type", &media_type)
    }
}

/// Returns a boundary that is in no part.
fn unused_boundary(parts: &[(&str, Option<&str>, &[u8])]) -> String {
    let mut boundary = String::from("boundary");
    let is_in = |boundary: &str, part: &[u8]| memmem::find(part, boundary.as_bytes()).is_some();
    while parts.iter().any(|(_, _, part)| is_in(&boundary, part)) {
        boundary.push('-');
    }
    boundary
}

/// Escapes the characters that would end a name (HTML §4.10.21.8).
fn escape(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

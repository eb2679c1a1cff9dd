//! A strict parser of the Prometheus text format.

use std::collections::{BTreeMap, HashMap};

/// The text format 0.0.4 as documented, and nothing else: a family is a HELP line, a TYPE line and
/// its samples, without other lines between them.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    kinds: HashMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut metrics = Self::default();
        let mut family = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("HELP line with a text");
                assert!(is_name(name) && !words.is_empty(), "{line}");
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
                let (same, kind) = kind
                    .and_then(|kind| kind.split_once(' '))
                    .expect("TYPE line with a kind");
                assert_eq!(same, name);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                let before = metrics.kinds.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "{name} comes twice");
                name.clone_into(&mut family);
                continue;
            }
            let (name, labels, value) = sample(line);
            let stem = match metrics.kinds.get(&family).map(String::as_str) {
                Some("histogram") => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end))
                    .expect("_bucket, _sum or _count of a histogram"),
                _ => &name,
            };
            assert_eq!(stem, family, "{line}");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let before = metrics.samples.insert((name, labels), value);
            assert!(before.is_none(), "{line} comes twice");
        }
        metrics.check_histograms();
        metrics
    }

    /// Asserts that buckets are cumulative, and that the last one counts all.
    fn check_histograms(&self) {
        let histograms = self.kinds.iter().filter(|(_, kind)| *kind == "histogram");
        for name in histograms.map(|(name, _)| name) {
            let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((sample, labels), count) in &self.samples {
                if *sample == format!("{name}_bucket") {
                    let mut labels = labels.clone();
                    let end = labels.remove("le").expect("le label");
                    let end = end.replace("+Inf", "inf").parse().expect("a number");
                    series.entry(labels).or_default().push((end, *count));
                }
            }
            assert!(!series.is_empty(), "{name}");
            for (labels, mut buckets) in series {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{name}");
                let last = buckets.last().expect("last bucket");
                let count = self.samples[&(format!("{name}_count"), labels.clone())];
                assert_eq!(*last, (f64::INFINITY, count), "{name}");
                assert!(self.samples.contains_key(&(format!("{name}_sum"), labels)));
            }
        }
    }

    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let labels: Labels = labels.iter().map(owned).collect();
        let value = self.samples.get(&(name.to_owned(), labels));
        *value.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

fn is_name(name: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.starts_with(|letter: char| letter.is_ascii_alphabetic()) && name.chars().all(legal)
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect("sample with a value");
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("closing brace")),
        None => (series, ""),
    };
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("label with a value");
        assert!(is_name(label), "{line}");
        let mut text = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("closing quote") {
                (at, '"') => break at + 1,
                (_, '\\') => text.push(match letters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, letter @ ('\\' | '"'))) => letter,
                    other => panic!("{other:?} in {line}"),
                }),
                (_, letter) => text.push(letter),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
        rest = after[end..].strip_prefix(',').unwrap_or(&after[end..]);
    }
    (name.to_owned(), labels, value.parse().expect("a number"))
}

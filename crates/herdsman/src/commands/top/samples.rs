//! What `/metrics` told: numbers by name and labels. Pure.

use std::collections::BTreeMap;

/// Samples taken of one scrape: gateways of a thousand pools stay below, histograms included.
const MOST: usize = 100_000;

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// All numbers of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(BTreeMap<String, Vec<Sample>>);

impl Sample {
    /// A label's value; empty where there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Samples {
    /// Takes the text apart. Lines that are no samples are passed over, and so are buckets, which nothing here shows.
    pub(super) fn read(text: &str) -> Self {
        let mut samples = BTreeMap::<_, Vec<_>>::new();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (name, sample) in lines.filter_map(read).take(MOST) {
            if !name.ends_with("_bucket") {
                samples.entry(name).or_default().push(sample);
            }
        }
        Self(samples)
    }

    /// All of this name.
    pub(super) fn all(&self, name: &str) -> &[Sample] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The first of this name.
    pub(super) fn first(&self, name: &str) -> Option<f64> {
        self.all(name).first().map(|sample| sample.value)
    }

    /// The one with the same values of these labels.
    pub(super) fn alike(&self, name: &str, other: &Sample, labels: &[&str]) -> Option<f64> {
        let alike = |one: &&Sample| labels.iter().all(|name| one.label(name) == other.label(name));
        self.all(name).iter().find(alike).map(|sample| sample.value)
    }

    /// The value of a label where the number is 1: which of several states it is.
    pub(super) fn state(&self, name: &str, label: &str) -> Option<&str> {
        self.all(name).iter().find(|sample| sample.value > 0.0).map(|sample| sample.label(label))
    }
}

fn read(line: &str) -> Option<(String, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), Sample { labels, value }))
}

/// Labels up to the brace that ends them, and what comes after it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = quoted.char_indices();
        rest = loop {
            match letters.next()? {
                (at, '"') => break quoted.get(at + 1..)?,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name_and_labels() {
        let text = "# HELP x what\n\
            x{node=\"n1\",state=\"a \\\"b\\\" {c}, \\\\\"} 1\n\
            x{node=\"n2\",state=\"d\"} 2.5\n\
            y_total{} 7\nplain 3\nh_bucket{le=\"1.0\"} 4\nnonsense\nbad{a=\"b} 1\n# EOF\n";
        let samples = Samples::read(text);
        assert_eq!(samples.all("x")[0].label("state"), "a \"b\" {c}, \\");
        assert_eq!((samples.first("y_total"), samples.first("plain")), (Some(7.0), Some(3.0)));
        let second = samples.all("x")[1].clone();
        assert_eq!(samples.alike("x", &second, &["node"]), Some(2.5));
        assert_eq!(samples.alike("y_total", &second, &["node"]), None);
        assert_eq!(samples.state("x", "node"), Some("n1"));
        assert!(samples.all("h_bucket").is_empty() && samples.all("bad").is_empty());
    }
}

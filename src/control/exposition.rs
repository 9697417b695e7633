//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use crate::telemetry::tally::Histogram;

/// The `Content-Type` of a page.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// The samples of one metric.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Page {
    /// Something that only grows while the process lives. The name ends in `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Something that goes up and down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// How values are spread.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: &mut self.0, name }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name;
        self.line(name, "", labels, None, value);
    }

    /// The samples of a histogram.
    pub(super) fn spread(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let name = self.name;
        for (bound, count) in histogram.cumulative() {
            self.line(name, "_bucket", labels, Some(&bound.to_string()), count);
        }
        self.line(name, "_bucket", labels, Some("+Inf"), histogram.count());
        self.line(name, "_sum", labels, None, histogram.sum());
        self.line(name, "_count", labels, None, histogram.count());
    }

    fn line(&mut self, name: &str, part: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        let mut shown: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        shown.extend(bound.map(|bound| format!("le=\"{bound}\"")));
        let labels = if shown.is_empty() { String::new() } else { format!("{{{}}}", shown.join(",")) };
        let _ = writeln!(self.page, "{name}{part}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

//! The part of XPath 1.0 that finds one node of an answer: location paths of children, descendants, attributes and
//! parents, with predicates.
//!
//! Not there: axes by name, arithmetic, unions, variables. No published uploader uses `{xml}` at all; what ShareX can do
//! with it is to select an element, which this does. The work is bounded, whatever the path and the answer.

use roxmltree::{Document, Node};

/// How many nodes a path may look at: an answer of 1 MiB has some hundred thousand at most.
const VISIT_LIMIT: usize = 2_000_000;

/// The longest path.
const STEP_LIMIT: usize = 32;

/// A path, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct XPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// `//` stands before it.
    deep: bool,
    test: Test,
    predicates: Vec<Predicate>,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Element(String),
    AnyElement,
    Text,
    Attribute(String),
    AnyAttribute,
    Here,
    Parent,
}

#[derive(Clone, Debug, PartialEq)]
enum Predicate {
    Position(usize),
    Last,
    Exists(Operand),
    Equals(Operand, String),
    Differs(Operand, String),
    Contains(Operand, String),
    StartsWith(Operand, String),
}

/// What a predicate looks at.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(XPath),
    LocalName,
}

impl XPath {
    /// Reads `text`.
    ///
    /// # Errors
    /// What is not understood.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text.trim() };
        let path = reader.path()?;
        if reader.rest.is_empty() { Ok(path) } else { Err(reader.unknown()) }
    }

    /// The text of the first node that it finds in `xml`; empty if there is none.
    ///
    /// # Errors
    /// When `xml` is no XML, or the path looks at too much of it.
    pub(super) fn find(&self, xml: &str) -> Result<String, String> {
        let document = Document::parse(xml.trim_start_matches('\u{feff}').trim_start())
            .map_err(|error| format!("the text is no XML (line {}, column {})", error.pos().row, error.pos().col))?;
        let mut visits = VISIT_LIMIT;
        let found = self.select(Found::Node(document.root()), &mut visits)?;
        Ok(found.first().map(Found::text).unwrap_or_default())
    }

    fn select<'d>(&self, from: Found<'d>, visits: &mut usize) -> Result<Vec<Found<'d>>, String> {
        let mut current = vec![from];
        for step in &self.0 {
            let mut next: Vec<Found<'d>> = Vec::new();
            for found in current {
                let Found::Node(node) = found else { continue };
                let starts: Vec<Node<'_, '_>> = if step.deep { node.descendants().collect() } else { vec![node] };
                for start in starts {
                    let mut candidates = step.test.candidates(start, visits)?;
                    for predicate in &step.predicates {
                        candidates = predicate.filter(candidates, visits)?;
                    }
                    next.extend(candidates);
                }
            }
            // One node can be reached on several ways below `//`.
            next.sort_by_key(Found::order);
            next.dedup_by_key(|found| found.order());
            current = next;
        }
        Ok(current)
    }
}

/// A node or an attribute of one.
#[derive(Clone, Debug)]
enum Found<'d> {
    Node(Node<'d, 'd>),
    Attribute(usize, usize, &'d str),
}

impl Found<'_> {
    fn order(&self) -> (usize, usize) {
        match self {
            Self::Node(node) => (node.id().get_usize(), 0),
            Self::Attribute(start, index, _) => (*start, index + 1),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Attribute(.., value) => (*value).to_owned(),
            Self::Node(node) if node.is_text() => node.text().unwrap_or_default().to_owned(),
            Self::Node(node) => node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect(),
        }
    }
}

impl Test {
    fn candidates<'d>(&self, node: Node<'d, 'd>, visits: &mut usize) -> Result<Vec<Found<'d>>, String> {
        let children =
            |wanted: &dyn Fn(&Node<'d, 'd>) -> bool| node.children().filter(wanted).map(Found::Node).collect();
        let attributes = |wanted: &dyn Fn(&str) -> bool| {
            let all = node.attributes().enumerate().filter(|(_, attribute)| wanted(attribute.name()));
            all.map(|(i, attribute)| Found::Attribute(node.id().get_usize(), i, attribute.value())).collect()
        };
        let found: Vec<Found<'d>> = match self {
            Self::Element(name) => children(&|child| child.is_element() && child.tag_name().name() == name),
            Self::AnyElement => children(&Node::is_element),
            Self::Text => children(&Node::is_text),
            Self::Attribute(name) => attributes(&|known| known == name),
            Self::AnyAttribute => attributes(&|_| true),
            Self::Here => vec![Found::Node(node)],
            Self::Parent => node.parent().map(Found::Node).into_iter().collect(),
        };
        let looked_at = 1 + if matches!(self, Self::Here | Self::Parent) { 0 } else { node.children().count() };
        *visits = visits.checked_sub(looked_at).ok_or("the XPath looks at too much of this answer")?;
        Ok(found)
    }
}

impl Predicate {
    fn filter<'d>(&self, nodes: Vec<Found<'d>>, visits: &mut usize) -> Result<Vec<Found<'d>>, String> {
        match self {
            Self::Position(position) => Ok(nodes.into_iter().skip(position - 1).take(1).collect()),
            Self::Last => Ok(nodes.into_iter().last().into_iter().collect()),
            Self::Exists(operand) => keep(nodes, operand, visits, |_| true),
            Self::Equals(operand, text) => keep(nodes, operand, visits, |value| value == text),
            Self::Differs(operand, text) => keep(nodes, operand, visits, |value| value != text),
            Self::Contains(operand, text) => keep(nodes, operand, visits, |value| value.contains(text)),
            Self::StartsWith(operand, text) => keep(nodes, operand, visits, |value| value.starts_with(text)),
        }
    }
}

fn keep<'d>(
    nodes: Vec<Found<'d>>,
    operand: &Operand,
    visits: &mut usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Found<'d>>, String> {
    let mut kept = Vec::new();
    for found in nodes {
        let values = match (operand, &found) {
            (Operand::LocalName, Found::Node(node)) => vec![node.tag_name().name().to_owned()],
            (Operand::LocalName, Found::Attribute(..)) => Vec::new(),
            (Operand::Path(path), found) if path.0.iter().all(|step| step.test == Test::Here) => vec![found.text()],
            (Operand::Path(path), found) => path.select(found.clone(), visits)?.iter().map(Found::text).collect(),
        };
        if values.iter().any(|value| wanted(value)) {
            kept.push(found);
        }
    }
    Ok(kept)
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn unknown(&self) -> String {
        let near: String = self.rest.chars().take(12).collect();
        format!("this part of the XPath is not supported: `{}`", near.escape_default())
    }

    fn skip(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn name(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        // Prefixes mean what the answer declares them to mean; the local name is what an author knows.
        name.rsplit(':').next().unwrap_or(name)
    }

    fn path(&mut self) -> Result<XPath, String> {
        let mut steps = Vec::new();
        let mut deep = self.skip("//");
        if !deep {
            self.skip("/");
        }
        loop {
            let test = self.test()?;
            let mut predicates = Vec::new();
            while self.skip("[") {
                predicates.push(self.predicate()?);
                if !self.skip("]") {
                    return Err(self.unknown());
                }
            }
            steps.push(Step { deep, test, predicates });
            if steps.len() > STEP_LIMIT {
                return Err(format!("the XPath has more than {STEP_LIMIT} steps"));
            }
            deep = if self.skip("//") {
                true
            } else if self.skip("/") {
                false
            } else {
                return Ok(XPath(steps));
            };
        }
    }

    fn test(&mut self) -> Result<Test, String> {
        if self.skip("..") {
            return Ok(Test::Parent);
        }
        if self.skip("@") {
            return if self.skip("*") { Ok(Test::AnyAttribute) } else { self.named().map(Test::Attribute) };
        }
        if self.skip("*") {
            return Ok(Test::AnyElement);
        }
        if self.skip("text()") {
            return Ok(Test::Text);
        }
        if self.rest.starts_with('.') {
            self.skip(".");
            return Ok(Test::Here);
        }
        self.named().map(Test::Element)
    }

    fn named(&mut self) -> Result<String, String> {
        let before = self.rest;
        let name = self.name();
        if name.is_empty() || self.rest.starts_with('(') || before.contains("::") {
            self.rest = before;
            return Err(self.unknown());
        }
        Ok(name.to_owned())
    }

    fn predicate(&mut self) -> Result<Predicate, String> {
        let digits = self.rest.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if let Some(position) = digits[..end].parse::<usize>().ok().filter(|position| *position > 0) {
            self.rest = &digits[end..];
            return Ok(Predicate::Position(position));
        }
        if self.skip("last()") {
            return Ok(Predicate::Last);
        }
        if self.skip("contains(") {
            let (operand, text) = self.pair()?;
            return Ok(Predicate::Contains(operand, text));
        }
        if self.skip("starts-with(") {
            let (operand, text) = self.pair()?;
            return Ok(Predicate::StartsWith(operand, text));
        }
        let operand = self.operand()?;
        if self.skip("!=") {
            return Ok(Predicate::Differs(operand, self.quoted()?));
        }
        if self.skip("=") {
            return Ok(Predicate::Equals(operand, self.quoted()?));
        }
        Ok(Predicate::Exists(operand))
    }

    /// `operand, 'text')`
    fn pair(&mut self) -> Result<(Operand, String), String> {
        let operand = self.operand()?;
        if !self.skip(",") {
            return Err(self.unknown());
        }
        let text = self.quoted()?;
        if self.skip(")") { Ok((operand, text)) } else { Err(self.unknown()) }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if self.skip("local-name()") || self.skip("name()") {
            return Ok(Operand::LocalName);
        }
        if self.rest.trim_start().starts_with('/') {
            return Err(self.unknown());
        }
        self.path().map(Operand::Path)
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or_else(|| self.unknown())?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or_else(|| self.unknown())?;
        self.rest = rest;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "\u{feff}<?xml version='1.0'?>\n<Files xmlns='urn:x'><File id='a'><URL>https://h/1</URL></File>\
        <File id='b' kind='thumb'><URL>https://h/2</URL><Note>n <b>bold</b> m</Note></File></Files>";

    fn find(path: &str) -> Result<String, String> {
        XPath::compile(path)?.find(XML)
    }

    #[test]
    fn the_first_node_of_a_path_is_found() {
        let table = [
            ("/Files/File[1]/URL", "https://h/1"),
            ("//URL", "https://h/1"),
            ("/Files/File[2]/URL", "https://h/2"),
            ("/Files/File[last()]/URL", "https://h/2"),
            ("//File[@id='b']/URL", "https://h/2"),
            ("//File[@kind]/URL/text()", "https://h/2"),
            ("//File[URL=\"https://h/2\"]/@id", "b"),
            ("//File[@id!='a']/@kind", "thumb"),
            ("//File[contains(URL, '/2')]/@id", "b"),
            ("//*[local-name()='URL'][starts-with(., 'https')]", "https://h/1"),
            ("//Note", "n bold m"),
            ("//URL/../@id", "a"),
            ("/Files/*/URL", "https://h/1"),
            ("//x:URL", "https://h/1"),
            ("/Nope/URL", ""),
        ];
        for (path, expected) in table {
            assert_eq!(find(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_is_not_supported_and_what_is_no_xml_are_mistakes() {
        for path in ["", "/a[", "count(//a)", "//a | //b", "child::a", "//a[position() < 3]", "//a[@b='c"] {
            assert!(XPath::compile(path).is_err(), "{path}");
        }
        let path = XPath::compile("//a").expect("a path");
        assert!(path.find("<html><br></html>").is_err() && path.find("").is_err());
    }

    #[test]
    fn the_work_is_bounded() {
        let xml = format!("{}{}", "<a>".repeat(900), "</a>".repeat(900));
        let path = XPath::compile("//*//*//*//*//*//*//*//*").expect("a path");
        assert!(path.find(&xml).is_err());
        let deep = format!("<!DOCTYPE a [<!ENTITY x 'xx'>]><a>{}</a>", "&x;".repeat(10));
        assert!(path.find(&deep).is_err(), "entities are not expanded");
    }
}

//! A page as a browser's parser understands it, for the tests.

use html5ever::tendril::TendrilSink;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// The elements of a page, each named by the way to it, such as `html>body>p`.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Each element, in the order of the page.
    pub elements: Vec<String>,
    /// Each attribute: of which element, its name and its value.
    pub attributes: Vec<(String, String, String)>,
    texts: Vec<(String, String)>,
    /// Comments and processing instructions, of which a page has none.
    pub others: Vec<String>,
}

impl Parsed {
    /// All text within the elements of this way.
    pub fn text_of(&self, way: &str) -> String {
        let inside = |path: &str| path.strip_prefix(way).is_some_and(|rest| rest.is_empty() || rest.starts_with('>'));
        self.texts.iter().filter(|(path, _)| inside(path)).map(|(_, text)| text.as_str()).collect()
    }

    fn visit(&mut self, node: &Handle, path: &str) {
        let mut path = path.to_owned();
        match &node.data {
            NodeData::Element { name, attrs, .. } => {
                path = if path.is_empty() { name.local.to_string() } else { format!("{path}>{}", name.local) };
                self.elements.push(path.clone());
                for attribute in attrs.borrow().iter() {
                    let (name, value) = (attribute.name.local.to_string(), attribute.value.to_string());
                    self.attributes.push((path.clone(), name, value));
                }
            }
            NodeData::Text { contents } => self.texts.push((path.clone(), contents.borrow().to_string())),
            NodeData::Comment { contents } => self.others.push(contents.to_string()),
            NodeData::ProcessingInstruction { contents, .. } => self.others.push(contents.to_string()),
            NodeData::Document | NodeData::Doctype { .. } => {}
        }
        node.children.borrow().iter().for_each(|child| self.visit(child, &path));
    }
}

/// Parses a page by the rules of the HTML standard.
pub fn parse(page: &str) -> Parsed {
    let dom = parse_document(RcDom::default(), ParseOpts::default()).one(page);
    let mut parsed = Parsed::default();
    parsed.visit(&dom.document, "");
    parsed
}

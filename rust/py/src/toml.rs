//! Line numbers of a TOML document, which Python's own parser does not give.

use std::collections::BTreeMap;
use std::ops::Range;

use pyo3::prelude::*;
use toml_edit::{Array, Document, Key, TableLike};

/// The line, from 1, of every table, element and value of a TOML document, by its path such as `groups.web.ingress[0]`;
/// empty for invalid TOML.
#[pyfunction]
pub fn toml_lines(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    if let Ok(document) = Document::parse(text) {
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut note = |path: String, span: Option<Range<usize>>| {
            if let Some(span) = span {
                lines.insert(path, starts.partition_point(|start| *start <= span.start));
            }
        };
        table_lines("", document.as_table(), &mut note);
    }
    lines
}

type Note<'a> = &'a mut dyn FnMut(String, Option<Range<usize>>);

fn table_lines(path: &str, table: &dyn TableLike, note: Note<'_>) {
    for (name, item) in table.iter() {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let key = table.key(name).and_then(Key::span);
        note(path.clone(), key.or_else(|| item.span()));
        if let Some(tables) = item.as_array_of_tables() {
            for (index, table) in tables.iter().enumerate() {
                let path = format!("{path}[{index}]");
                note(path.clone(), table.span());
                table_lines(&path, table, note);
            }
        } else if let Some(table) = item.as_table_like() {
            table_lines(&path, table, note);
        } else if let Some(array) = item.as_array() {
            array_lines(&path, array, note);
        }
    }
}

fn array_lines(path: &str, array: &Array, note: Note<'_>) {
    for (index, value) in array.iter().enumerate() {
        let path = format!("{path}[{index}]");
        note(path.clone(), value.span());
        if let Some(table) = value.as_inline_table() {
            table_lines(&path, table, note);
        } else if let Some(array) = value.as_array() {
            array_lines(&path, array, note);
        }
    }
}

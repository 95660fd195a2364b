//! Links in the documents that lead nowhere.

use std::path::{Path, PathBuf};

fn documents() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md"].iter().map(|name| top.join(name)).collect();
    walk(&top.join("docs"), &mut found);
    found.sort();
    found
}

/// The targets of `[text](target)`, of `![text](target)` and of `[name]: target`; code is left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        let outside_of_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = outside_of_code.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(inline.map(|(target, _)| target.to_owned()));
        let named = outside_of_code.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(named.map(|(_, target)| target.trim().to_owned()));
    }
    // A title may stand behind the target.
    found.iter().filter_map(|link| link.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn links_are_found_and_code_is_none() {
    let text = "a [b](c.md) [`d`](e/f.md#g) `[no](x)` ![i](j.png \"title\")\n```\n[no](y)\n```\n[k]: l.md\n";
    assert_eq!(links(text), ["c.md", "e/f.md#g", "j.png", "l.md"]);
}

#[test]
fn every_relative_link_of_a_document_leads_to_a_file() {
    let mut dead = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let target = link.split_once('#').map_or(link.as_str(), |(path, _)| path);
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            if !document.parent().unwrap().join(target).exists() {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(count > 0, "no link was looked at");
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

//! Which adapters there are: the built-in ones, and those of the root, which override them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::manifest::Manifest;
use crate::fs::{self, FsError};
use crate::job::{ToolId, annotations, parse};
use crate::store::Store;

const BUILT_IN: [(&str, &str); 11] = [
    ("aider", include_str!("../../adapters/aider.json")),
    ("claude", include_str!("../../adapters/claude.json")),
    ("codex", include_str!("../../adapters/codex.json")),
    ("gemini", include_str!("../../adapters/gemini.json")),
    ("git", include_str!("../../adapters/git.json")),
    ("integration", include_str!("../../adapters/integration.json")),
    ("plugin", include_str!("../../adapters/plugin.json")),
    ("python", include_str!("../../adapters/python.json")),
    ("shell", include_str!("../../adapters/shell.json")),
    ("tests", include_str!("../../adapters/tests.json")),
    ("workstream", include_str!("../../adapters/workstream.json")),
];

/// A manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The root that has it is not accepted.
    #[error("`{}` is not used: its root was cloned, copied or restored, and is not accepted yet (`engine init --adopt`)", path.display())]
    NotAccepted {
        /// The file.
        path: PathBuf,
    },
    /// It is not a valid manifest.
    #[error("`{}` is not a valid adapter manifest: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// An adapter as it is listed: its manifest, or why it cannot be used.
pub(crate) type Listed = Result<(Manifest, Source), ManifestError>;

/// Which manifests of a root count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manifests<'a> {
    /// There is no root.
    BuiltIn,
    /// Those in its `adapters/`, before the built-in ones.
    OfRoot(&'a Path),
    /// None: the root came from elsewhere, and no person has accepted it.
    NotAccepted(&'a Path),
}

impl<'a> From<&'a Store> for Manifests<'a> {
    fn from(store: &'a Store) -> Self {
        if store.is_accepted() { Self::OfRoot(store.root()) } else { Self::NotAccepted(store.root()) }
    }
}

impl<'a> From<Option<&'a Store>> for Manifests<'a> {
    fn from(store: Option<&'a Store>) -> Self {
        store.map_or(Self::BuiltIn, Self::from)
    }
}

/// Where a manifest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is part of the program.
    BuiltIn,
    /// A file of the root.
    File(PathBuf),
}

/// Finds the adapter of a tool: the root's, else the built-in one; `None`: there is none.
///
/// # Errors
/// `ManifestError` if the root's cannot be read.
pub fn find<'a>(
    manifests: impl Into<Manifests<'a>>,
    tool: &ToolId,
) -> Result<Option<Manifest>, ManifestError> {
    let built_in = built_in(tool);
    let file = |root: &Path| file_of(root, tool);
    match manifests.into() {
        Manifests::OfRoot(root) => {
            if let Some(manifest) = read(&file(root))? {
                return Ok(Some(manifest));
            }
        }
        Manifests::NotAccepted(root) if built_in.is_none() && fs::exists(&file(root))? => {
            return Err(ManifestError::NotAccepted { path: file(root) });
        }
        Manifests::NotAccepted(_) | Manifests::BuiltIn => {}
    }
    built_in.map(|text| parse(text.as_bytes(), Path::new("built-in"))).transpose()
}

/// The manifest of a root that is not accepted, where it would take the place of a built-in one and is not the same.
#[must_use]
pub(crate) fn not_used<'a>(manifests: impl Into<Manifests<'a>>, tool: &ToolId) -> Option<PathBuf> {
    let Manifests::NotAccepted(root) = manifests.into() else { return None };
    let built_in = built_in(tool)?;
    let path = file_of(root, tool);
    let bytes = fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, LARGEST));
    match bytes {
        Ok(Some(bytes)) if bytes == built_in.as_bytes() => None,
        Err(error) if error.is_not_found() => None,
        _ => Some(path),
    }
}

fn built_in(tool: &ToolId) -> Option<&'static str> {
    BUILT_IN.iter().find(|(id, _)| *id == tool.as_str()).map(|(_, text)| *text)
}

fn file_of(root: &Path, tool: &ToolId) -> PathBuf {
    root.join("adapters").join(format!("{tool}.json"))
}

/// A larger manifest is not read.
const LARGEST: u64 = 1 << 20;

/// The ids of all adapters, whether or not their manifests can be used; of the root as far as it can be read.
fn ids<'a>(manifests: impl Into<Manifests<'a>>) -> BTreeSet<String> {
    let of_root = match manifests.into() {
        Manifests::BuiltIn => Vec::new(),
        Manifests::OfRoot(root) | Manifests::NotAccepted(root) => ids_of(root).unwrap_or_default(),
    };
    BUILT_IN.iter().map(|(id, _)| (*id).to_owned()).chain(of_root).collect()
}

/// The adapter whose id is most like that of one that is not there.
#[must_use]
pub(crate) fn nearest<'a>(manifests: impl Into<Manifests<'a>>, tool: &ToolId) -> Option<String> {
    let ids = ids(manifests);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    parse::nearest::nearest(tool.as_str(), &ids).map(str::to_owned)
}

/// The ids after which files of a root are named.
fn ids_of(root: &Path) -> Result<Vec<String>, FsError> {
    let names = fs::names(&root.join("adapters"))?;
    let id =
        |name: &String| name.strip_suffix(".json").filter(|id| ToolId::new(id).is_ok()).map(str::to_owned);
    Ok(names.iter().filter_map(id).collect())
}

/// All adapters by id, with where each comes from; one that cannot be read is an error in its place.
pub(crate) fn list<'a>(manifests: impl Into<Manifests<'a>>) -> Result<BTreeMap<String, Listed>, FsError> {
    let manifests = manifests.into();
    let mut found = BTreeMap::new();
    for (id, text) in BUILT_IN {
        let manifest = parse(text.as_bytes(), Path::new("built-in"));
        found.insert(id.to_owned(), manifest.map(|manifest| (manifest, Source::BuiltIn)));
    }
    let (Manifests::OfRoot(root) | Manifests::NotAccepted(root)) = manifests else { return Ok(found) };
    for id in ids_of(root)? {
        let path = root.join("adapters").join(format!("{id}.json"));
        if matches!(manifests, Manifests::NotAccepted(_)) {
            found.entry(id).or_insert(Err(ManifestError::NotAccepted { path }));
            continue;
        }
        match read(&path) {
            Ok(Some(manifest)) => drop(found.insert(id, Ok((manifest, Source::File(path))))),
            Ok(None) => {}
            Err(error) => drop(found.insert(id, Err(error))),
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Option<Manifest>, ManifestError> {
    let file = match fs::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let invalid =
        |problem: &str| ManifestError::Invalid { path: path.to_path_buf(), problem: problem.to_owned() };
    // A user that can write a manifest chooses what runs.
    if !fs::is_ours(&file, path)? {
        return Err(invalid("it must be a file that you own and only you can write"));
    }
    let bytes = fs::read_limited(&file, path, LARGEST)?.ok_or_else(|| invalid("larger than 1 MiB"))?;
    let manifest = parse(&bytes, path)?;
    if path.file_stem().is_none_or(|stem| stem != manifest.id.as_str()) {
        return Err(invalid(&format!("its `id` is `{}`; name its file after it", manifest.id)));
    }
    Ok(Some(manifest))
}

fn parse(bytes: &[u8], path: &Path) -> Result<Manifest, ManifestError> {
    let invalid = |error: serde_json::Error| ManifestError::Invalid {
        path: path.to_path_buf(),
        problem: error.to_string(),
    };
    let bytes = parse::without_mark(bytes);
    // The usual manifest has no annotations: read it at once, and again only if that fails.
    serde_json::from_slice(bytes).or_else(|first| {
        let mut document: Value = serde_json::from_slice(bytes).map_err(invalid)?;
        let mut annotated = false;
        if let Some(object) = document.as_object_mut() {
            let all = object.len();
            object.retain(|key, _| !annotations::is_annotation(key));
            annotated = object.len() < all;
        }
        // The first error has a line, but may be about an annotation.
        Manifest::deserialize(&document).map_err(|second| invalid(if annotated { second } else { first }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_manifest_is_valid_and_named_after_its_id() {
        for (id, text) in BUILT_IN {
            let manifest = parse(text.as_bytes(), Path::new(id)).unwrap();
            assert_eq!(manifest.id.as_str(), id);
        }
    }

    #[test]
    fn the_root_adds_and_overrides_and_a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let adapters = dir.path().join("adapters");
        fs::create_dir(&adapters).unwrap();
        let put =
            |name: &str, text: &str| drop(fs::create_new(&adapters.join(name), text.as_bytes()).unwrap());
        put("mine.json", r#"{"id": "mine", "executable": "x", "_comment": "mine"}"#);
        put("marked.json", "\u{feff}{\"id\": \"marked\", \"executable\": \"y\"}");
        put("torn.json", r#"{"id": "torn", "exe"#);
        fs::create_dir(&adapters.join("dir.json")).unwrap();
        put("git.json", r#"{"id": "git", "executable": "other-git"}"#);
        put("bad.json", r#"{"id": "bad", "_comment": "mine", "exe": "x"}"#);
        put("wrong.json", r#"{"id": "name"}"#);
        let manifests = Manifests::OfRoot(dir.path());
        let find = |id: &str| find(manifests, &ToolId::new(id).unwrap());
        assert_eq!(find("mine").unwrap().unwrap().executable.as_deref(), Some("x"));
        assert_eq!(find("git").unwrap().unwrap().executable.as_deref(), Some("other-git"));
        assert_eq!(find("marked").unwrap().unwrap().executable.as_deref(), Some("y"));
        assert!(find("torn").unwrap_err().to_string().contains("EOF while parsing"));
        let is_dir = crate::causes::causes(&find("dir").unwrap_err());
        assert!(is_dir.contains("dir.json") && is_dir.contains("not a regular file"), "{is_dir}");
        assert!(find("absent").unwrap().is_none());
        assert!(find("bad").unwrap_err().to_string().contains("unknown field `exe`"));
        assert!(find("wrong").unwrap_err().to_string().contains("name its file after it"));
        assert_eq!(list(manifests).unwrap().len(), BUILT_IN.len() + 6);
        let manifests = Manifests::NotAccepted(dir.path());
        let tool = |id: &str| ToolId::new(id).unwrap();
        assert!(super::find(manifests, &tool("mine")).unwrap_err().to_string().contains("not accepted"));
        let git = super::find(manifests, &tool("git")).unwrap().unwrap();
        assert_eq!(git.executable.as_deref(), Some("git"));
        assert_eq!(not_used(manifests, &tool("git")), Some(adapters.join("git.json")));
        assert_eq!(not_used(manifests, &tool("shell")), None);
        assert!(list(manifests).unwrap()["mine"].is_err() && list(manifests).unwrap()["git"].is_ok());
    }
}

//! The index: which articles a word is in, in memory and in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use herdsman_stream::{FromChange, Handler, HandlerError};
use herdsman_wal::{Change, Kind};

/// Words, and the ids of the articles that each is in.
pub type Words = BTreeMap<String, BTreeSet<i64>>;

/// A row of the table.
#[derive(FromChange)]
#[change(table = "public.articles")]
struct Article {
    id: i64,
    title: String,
    body: String,
}

/// All that is wanted of the row before: a delete may tell no more than the key.
#[derive(FromChange)]
#[change(table = "public.articles")]
struct Key {
    id: i64,
}

/// A search index. What a change makes of it is on the disk before the change counts as handled, so that it and the slot
/// agree after a restart.
#[derive(Clone)]
pub struct Index(Arc<Mutex<Inner>>);

struct Inner {
    words: Words,
    /// A line for each change: the article, and its text from then on.
    file: File,
}

impl Index {
    /// Reads what was there before a restart.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut words = Words::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            // A line without its end was torn by a crash; its change comes again.
            if let [id, text, ""] = line.split('\t').collect::<Vec<_>>()[..] {
                set(&mut words, id.parse().ok(), text);
            }
        }
        Ok(Self(Arc::new(Mutex::new(Inner { words, file }))))
    }

    /// The articles that a word is in.
    pub fn search(&self, word: &str) -> Vec<i64> {
        let found = self.lock().words.get(&word.to_lowercase()).cloned();
        found.into_iter().flatten().collect()
    }

    /// All of it.
    pub fn words(&self) -> Words {
        self.lock().words.clone()
    }

    fn set(&self, id: Option<i64>, text: &str) -> io::Result<()> {
        let name = id.map_or_else(|| "all".to_owned(), |id| id.to_string());
        let text = text.replace(|c: char| c.is_control(), " ");
        let mut inner = self.lock();
        inner.file.write_all(format!("\n{name}\t{text}\t").as_bytes())?;
        inner.file.sync_data()?;
        set(&mut inner.words, id, &text);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes of one article come one after the other, those of different articles side by side. Any may come twice; the
/// second time nothing becomes different.
#[async_trait]
impl Handler for Index {
    async fn handle(&self, change: &Change) -> Result<(), HandlerError> {
        let change = change.view();
        if change.kind() == Kind::Truncate {
            self.set(None, "")?;
        }
        let new = Article::new_of(&change).transpose()?;
        if let Some(old) = Key::old_of(&change).transpose()?
            && new.as_ref().is_none_or(|new| new.id != old.id)
        {
            self.set(Some(old.id), "")?;
        }
        if let Some(Article { id, title, body }) = new {
            self.set(Some(id), &format!("{title} {body}"))?;
        }
        Ok(())
    }
}

/// Gives an article, or all of them, the words of this text and no others.
pub fn set(words: &mut Words, id: Option<i64>, text: &str) {
    let Some(id) = id else { return words.clear() };
    words.retain(|_, ids| {
        ids.remove(&id);
        !ids.is_empty()
    });
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        words.entry(word.to_lowercase()).or_default().insert(id);
    }
}

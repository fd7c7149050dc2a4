//! The blocks of a Markdown file.

/// A file.
pub(super) struct Page {
    /// Its name from the root of the repository.
    pub(super) name: String,
    pub(super) blocks: Vec<Block>,
    commands: Vec<Shown>,
}

/// What stands between two fences.
pub(super) struct Block {
    /// What the fence says it is.
    pub(super) language: String,
    /// Line of the opening fence.
    pub(super) line: usize,
    pub(super) lines: Vec<String>,
}

/// A command with what it is shown to print.
pub(super) struct Shown {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) expected: String,
}

impl Page {
    pub(super) fn read(name: &str, text: &str) -> Self {
        let blocks = blocks(text);
        let consoles = blocks.iter().filter(|block| block.language == "console");
        let commands = consoles.flat_map(commands).collect();
        Self { name: name.to_owned(), blocks, commands }
    }

    /// Everything to run, in order.
    pub(super) fn commands(&self) -> impl Iterator<Item = &Shown> {
        self.commands.iter()
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut indent = None;
    for (number, line) in (1..).zip(text.lines()) {
        let bare = line.trim_start();
        match (indent, bare.strip_prefix("```")) {
            (None, Some(language)) => {
                indent = Some(line.len() - bare.len());
                let language = language.split([' ', ',']).next().unwrap_or_default().to_owned();
                blocks.push(Block { language, line: number, lines: Vec::new() });
            }
            (Some(_), Some(_)) => indent = None,
            (Some(columns), None) => {
                // In a list a block is indented as its fence is.
                let columns = columns.min(line.len() - bare.len());
                blocks.last_mut().unwrap().lines.push(line.get(columns..).unwrap().to_owned());
            }
            (None, None) => {}
        }
    }
    blocks
}

fn commands(block: &Block) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    let mut continues = false;
    for (number, line) in (block.line + 1..).zip(&block.lines) {
        if let Some(text) = line.strip_prefix("$ ") {
            commands.push(Shown { line: number, text: text.to_owned(), expected: String::new() });
        } else if let Some(command) = commands.last_mut() {
            let to = if continues { &mut command.text } else { &mut command.expected };
            if !to.is_empty() || !continues {
                to.push('\n');
            }
            to.push_str(line);
        } else {
            // Output of nothing would be compared with nothing.
            panic!("line {number} stands before the first command of its `console` block: {line}");
        }
        let is_command = continues || line.starts_with("$ ");
        continues = is_command && line.ends_with('\\');
    }
    commands
}

/// The files of the system that a configuration names.
pub(super) fn absolute_paths(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || ",\"'{}[]".contains(c));
    let mut paths: Vec<_> = words
        .filter(|word| ["/etc/", "/var/", "/run/"].iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect();
    // A path that begins another one must not be replaced in the middle of it.
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    paths.dedup();
    paths
}

/// The variables that hold its passwords and tokens.
pub(super) fn variables(text: &str) -> Vec<String> {
    let after = text.split("_env:").skip(1);
    let name = |rest: &str| {
        let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        rest.trim_start().split(end).next().unwrap_or_default().to_owned()
    };
    after.map(name).collect()
}

#[test]
fn commands_are_told_from_what_they_print() {
    let text = "x\n```console\n$ a \\\n  b\none\n\ntwo\n$ c\n```\n```sh\n$ d\n```\n  ```console\n  $ e\n  f\n  ```\n";
    let page = Page::read("x.md", text);
    let shown: Vec<_> =
        page.commands().map(|c| (c.line, c.text.as_str(), c.expected.as_str())).collect();
    assert_eq!(shown, [(3, "a \\\n  b", "\none\n\ntwo"), (8, "c", ""), (14, "e", "\nf")]);
}

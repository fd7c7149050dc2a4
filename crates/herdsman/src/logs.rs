//! The log: to standard error, and to a file where one is configured.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::cli::{Global, LogFormat};
use crate::config::LogConfig;
use crate::exit::{Exit, Failed};

/// Variables that replace the configured level with a filter of their own; the first that is set wins.
pub(crate) const VARIABLES: [&str; 2] = ["HERDSMAN_LOG", "RUST_LOG"];

/// The file part of the log, to be opened again after it was moved away.
#[derive(Clone)]
pub(crate) struct LogFile(Arc<Mutex<File>>);

/// Starts the log. Returns the log file, where there is one.
///
/// # Errors
/// What is wrong with the log file or the filter.
pub(crate) fn start(
    config: &LogConfig,
    debug: bool,
    format: LogFormat,
) -> Result<Option<LogFile>, String> {
    let file = config.file.as_deref().map(LogFile::open).transpose()?;
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let to_stderr = layer(format, ansi, io::stderr);
    let to_file = file.clone().map(|file| layer(format, false, file));
    let level = if debug { Level::DEBUG } else { config.level };
    #[cfg(feature = "otel")]
    if let Some(spans) = crate::otel::layer()? {
        // The log's filter is the log's alone: what goes to the collector does not depend on its level, nor the log on it.
        let to_stderr = layer(format, ansi, io::stderr)
            .and_then(file.clone().map(|file| layer(format, false, file)));
        let subscriber =
            Registry::default().with(to_stderr.with_filter(filter(level)?)).with(spans);
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|error| format!("failed to start the log: {error}"))?;
        return Ok(file);
    }
    let subscriber = Registry::default().with(filter(level)?).with(to_stderr).with(to_file);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| format!("failed to start the log: {error}"))?;
    Ok(file)
}

/// Starts the log of a command that runs until it is told to stop, and says there what the configuration is to be told of.
///
/// # Errors
/// As of [`start`].
pub(crate) fn start_with_notes(
    config: &LogConfig,
    notes: &[String],
    global: &Global,
) -> Result<(), Failed> {
    start(config, global.debug, global.log_format).map_err(|problem| Exit::Config.with(problem))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    Ok(())
}

/// Starts a log of everything worth debugging, to standard error only: for commands that log nothing otherwise.
///
/// # Errors
/// What is wrong with the filter.
pub(crate) fn start_bare(format: LogFormat) -> Result<(), String> {
    start(&LogConfig { level: Level::DEBUG, file: None }, true, format).map(|_no_file| ())
}

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn layer<S, W>(format: LogFormat, ansi: bool, writer: W) -> BoxedLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(ansi)
        // It would complain on standard error, which may be what cannot be written to.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn filter(level: Level) -> Result<EnvFilter, String> {
    let set = VARIABLES.iter().find_map(|&name| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, value))
    });
    let Some((name, value)) = set else {
        // Libraries below `debug` are of no use to an operator, and some show what they send.
        let others = level.min(Level::INFO);
        return EnvFilter::try_new(format!("{others},herdsman={level}"))
            .map_err(|error| error.to_string());
    };
    EnvFilter::try_new(&value).map_err(|error| {
        format!(
            "${name} is `{value}`, expected a filter such as debug or herdsman_watch=trace: {error}"
        )
    })
}

impl LogFile {
    fn open(path: &Path) -> Result<Self, String> {
        Ok(Self(Arc::new(Mutex::new(open(path)?))))
    }

    /// Opens the file again, so that a rotated log goes on in a new file.
    ///
    /// # Errors
    /// Why it cannot be opened; the old file stays in use.
    pub(crate) fn reopen(&self, path: &Path) -> Result<(), String> {
        let file = open(path)?;
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = file;
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| format!("the log file `{}` cannot be opened: {error}", path.display()))
}

impl MakeWriter<'_> for LogFile {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).flush()
    }
}

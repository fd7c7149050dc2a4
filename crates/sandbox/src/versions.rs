//! On which PostgreSQL versions tests run.

/// The major versions that tests run on: those in `HERDSMAN_TEST_PG_VERSIONS` (as in `15 18` or `15,18`), else 15 and 18.
#[must_use]
pub fn tested_versions() -> Vec<u32> {
    let list = std::env::var("HERDSMAN_TEST_PG_VERSIONS").unwrap_or_else(|_| "15 18".to_owned());
    list.split([',', ' ']).filter_map(|version| version.parse().ok()).collect()
}

/// Runs each test on every version of [`tested_versions`], as `name::on_15` and `name::on_18`.
///
/// The tests' crate needs tokio with `macros` and `rt-multi-thread`.
///
/// ```
/// # mod tests {
/// herdsman_sandbox::on_each_version! {
///     async fn a_primary_starts(version: u32) {
///         let sandbox = herdsman_sandbox::Sandbox::builder().pg_version(version).start().await.unwrap();
///         assert_eq!(sandbox.primary().await.unwrap(), "n1");
///     }
/// }
/// # }
/// ```
#[macro_export]
macro_rules! on_each_version {
    ($($(#[$meta:meta])* async fn $name:ident($version:ident: u32) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports, reason = "a test may need nothing from around it")]
            use super::*;
            async fn run($version: u32) $body

            async fn run_on(version: u32) {
                if $crate::tested_versions().contains(&version) {
                    Box::pin(run(version)).await;
                }
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_15() {
                run_on(15).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_18() {
                run_on(18).await;
            }
        })*
    };
}

/// Runs each test once, on the newest version of [`tested_versions`]: for what goes on above servers, on which their version has
/// no say.
///
/// ```
/// # mod tests {
/// herdsman_sandbox::on_newest_version! {
///     async fn a_primary_starts(version: u32) {
///         let sandbox = herdsman_sandbox::Sandbox::builder().pg_version(version).start().await.unwrap();
///         assert_eq!(sandbox.primary().await.unwrap(), "n1");
///     }
/// }
/// # }
/// ```
#[macro_export]
macro_rules! on_newest_version {
    ($($(#[$meta:meta])* async fn $name:ident($version:ident: u32) $body:block)*) => {
        $($(#[$meta])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            async fn run($version: u32) $body

            if let Some(newest) = $crate::tested_versions().into_iter().max() {
                Box::pin(run(newest)).await;
            }
        })*
    };
}

//! Somebody else at the same server.

use secrecy::SecretString;

use super::{Conninfo, passfile};

impl Conninfo {
    /// The same server for somebody else, as an application beside the monitoring user; `None` keeps what there is.
    ///
    /// A password goes with its user: for another one without a password, `PGPASSWORD` and the password file are asked.
    ///
    /// ```
    /// use herdsman_node::Conninfo;
    /// let monitor: Conninfo = "postgres://monitor:secret@db1/postgres?passfile=/dev/null".parse().unwrap();
    /// let app = monitor.for_login(Some("app"), None, Some("shop"));
    /// assert_eq!((app.host.as_str(), app.user.as_str(), app.dbname.as_str()), ("db1", "app", "shop"));
    /// assert!(app.password.is_none());
    /// ```
    #[must_use]
    pub fn for_login(
        &self,
        user: Option<&str>,
        password: Option<SecretString>,
        dbname: Option<&str>,
    ) -> Self {
        self.for_login_in(user, password, dbname, &|name| std::env::var(name).ok())
    }

    fn for_login_in(
        &self,
        user: Option<&str>,
        password: Option<SecretString>,
        dbname: Option<&str>,
        env: super::Lookup<'_>,
    ) -> Self {
        let mut login = self.clone();
        let user = user.filter(|&user| user != self.user);
        if let Some(dbname) = dbname {
            dbname.clone_into(&mut login.dbname);
        }
        if let Some(user) = user {
            user.clone_into(&mut login.user);
            login.password = None;
        }
        if password.is_some() {
            login.password = password;
        } else if user.is_some() {
            let found = env("PGPASSWORD").filter(|password| !password.is_empty()).or_else(|| {
                let file = login.passfile.as_deref()?;
                passfile::lookup(file, &login.host, login.port, &login.dbname, &login.user)
            });
            login.password = found.map(SecretString::from);
        }
        login
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_with_its_user() {
        let monitor: Conninfo =
            "host=a user=mon password=m dbname=d passfile=/nowhere".parse().unwrap();
        let none = |_: &str| None;
        let some = |name: &str| (name == "PGPASSWORD").then(|| "env".to_owned());
        let given = || Some(SecretString::from("given"));
        let cases: [(_, _, super::super::Lookup<'_>, _); 6] = [
            (None, None, &some, Some("m")),
            (Some("mon"), None, &some, Some("m")),
            (Some("app"), None, &none, None),
            (Some("app"), None, &some, Some("env")),
            (Some("app"), given(), &some, Some("given")),
            (None, given(), &none, Some("given")),
        ];
        for (user, password, env, expected) in cases {
            let login = monitor.for_login_in(user, password, None, env);
            assert_eq!(login.user, user.unwrap_or("mon"));
            assert_eq!((login.password_text(), login.dbname.as_str()), (expected, "d"), "{user:?}");
        }
    }
}

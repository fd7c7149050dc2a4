//! Configurations of Herdsman that fit a sandbox.

use std::path::Path;

use super::Sandbox;
use crate::SandboxError;

impl Sandbox {
    /// A ready `herdsman.yml` that watches this cluster, serves its API on `api_port` of 127.0.0.1, and lets programs that
    /// use the library log in as `app`. Of writers it makes a mesh with the tables of schema `public`.
    ///
    /// # Errors
    /// Never for the sandbox's own nodes; the signature leaves room.
    pub fn config_yaml(&self, api_port: u16) -> Result<String, SandboxError> {
        let names = self.node_names();
        let mut text = String::from("hosts:\n");
        for name in &names {
            let keys = self.conninfo(name, "herdsman")?;
            // A JSON string is a YAML string.
            let pairs: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key}: {}", serde_json::Value::from(value.as_str())))
                .collect();
            text.push_str(&format!("  {name}: {{ {} }}\n", pairs.join(", ")));
        }
        let listed = names.join(", ");
        if self.writers {
            let password = serde_json::Value::from(self.credentials.password("mesh")?);
            text.push_str(&format!(
                "host_groups: {{ writers: [{listed}] }}\nbind: 127.0.0.1\nport: {api_port}\n\
                 mesh:\n  nodes: [{listed}]\n  tables: [public.*]\n  \
                 login: {{ user: mesh, password: {password} }}\n"
            ));
            return Ok(text);
        }
        text.push_str(&format!("host_groups: {{ cluster: [{listed}] }}\n"));
        text.push_str(&format!(
            "bind: 127.0.0.1\nport: {api_port}\nwatch:\n  replication_addresses:\n"
        ));
        for name in &names {
            text.push_str(&format!(
                "    {name}: {}\n",
                serde_json::Value::from(self.replication_addresses(name)?)
            ));
        }
        // Programs that use the library log in as the application, which may make tables of its own.
        let password = serde_json::Value::from(self.credentials.password("app")?);
        text.push_str(&format!("route:\n  application: {{ user: app, password: {password} }}\n"));
        Ok(text)
    }

    /// The `gateway:` section for [`Sandbox::config_yaml`]: on `port` of 127.0.0.1, with the roles of the sandbox as users,
    /// `postgres` as admin, and `herdsman` (the program's path) to carry out switchovers.
    ///
    /// # Errors
    /// Never for the sandbox's own roles; the signature leaves room.
    pub fn gateway_yaml(&self, port: u16, herdsman: &Path) -> Result<String, SandboxError> {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut yaml = format!("gateway:\n  listen: 127.0.0.1:{port}\n  users:\n");
        for (role, password) in self.credentials.iter() {
            yaml.push_str(&format!("    {role}: {{ password: {} }}\n", text(password)));
        }
        // The pools of all of them, full, fit into the servers' `max_connections`.
        yaml.push_str("  pool: { size: 8 }\n");
        yaml.push_str("  admins: [postgres]\n  stats_users: [herdsman]\n");
        if self.tls {
            let file = |name: &str| text(&self.dir().join("tls").join(name).to_string_lossy());
            yaml.push_str(&format!(
                "  tls: {{ cert: {}, key: {} }}\n",
                file("server.pem"),
                file("server.key")
            ));
        }
        let program = text(&herdsman.to_string_lossy());
        let dir = text(&self.dir().to_string_lossy());
        yaml.push_str("  switchover:\n");
        for (key, verb) in [
            ("demote", "stop, \"{node}\""),
            ("promote", "promote, \"{node}\""),
            ("follow", "follow, \"{node}\", \"{new}\", --or-rejoin"),
        ] {
            yaml.push_str(&format!("    {key}: [{program}, sandbox, --dir, {dir}, {verb}]\n"));
        }
        Ok(yaml)
    }
}

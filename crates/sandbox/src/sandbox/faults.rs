//! Faults of the network between nodes and in front of them, and of their clocks.

use super::Sandbox;
use crate::{Fault, FaultProxy, SandboxError, clock};

impl Sandbox {
    /// Cuts two nodes off from each other, silently and both ways. Clients still reach both, and so do other nodes.
    ///
    /// # Errors
    /// There is no such node, or both are the same.
    pub fn partition(&self, one: &str, other: &str) -> Result<(), SandboxError> {
        self.partition_by(one, other, Fault::Stall)
    }

    /// As [`Sandbox::partition`], with another fault than a silent one, [`Fault::Cut`] for instance.
    ///
    /// # Errors
    /// There is no such node, both are the same, or they are writers, which know nothing of each other.
    pub fn partition_by(&self, one: &str, other: &str, fault: Fault) -> Result<(), SandboxError> {
        self.only_in_a_cluster("nothing goes from one to another; cut one off from everybody")?;
        self.link(one, other)?.set(fault);
        self.link(other, one)?.set(fault);
        Ok(())
    }

    /// Turns the node's machine into a blackhole: for clients and for all other nodes. The node itself runs on.
    ///
    /// # Errors
    /// There is no such node.
    pub fn cut_off(&self, node: &str) -> Result<(), SandboxError> {
        self.set_around(node, Fault::Stall)
    }

    /// Undoes [`Sandbox::cut_off`], and every other network fault of this node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn reconnect(&self, node: &str) -> Result<(), SandboxError> {
        self.set_around(node, Fault::Pass)
    }

    /// Has a server's clock differ from the machine's by so many seconds from now on, also while it runs. The sandbox must
    /// have been built with [`Builder::own_clocks`](crate::Builder::own_clocks).
    ///
    /// # Errors
    /// There is no such node, it has no clock of its own, or the file that it goes by cannot be written.
    pub fn set_clock(&self, node: &str, seconds: i64) -> Result<(), SandboxError> {
        let server = &self.node(node)?.server;
        if server.clock.is_none() {
            return Err(SandboxError::not_now(node, "has no clock of its own"));
        }
        clock::set(&server.folder, self.account, seconds)
    }

    /// Ends every network fault.
    pub fn heal(&self) {
        for proxy in self.nodes.iter().map(|node| &node.clients).chain(self.links.values()) {
            proxy.set(Fault::Pass);
        }
    }

    /// The proxy through which clients and watchers reach the node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn client_proxy(&self, node: &str) -> Result<&FaultProxy, SandboxError> {
        Ok(&self.node(node)?.clients)
    }

    /// The proxy through which `from` streams from `to` when it follows it.
    ///
    /// # Errors
    /// There is no such node, or both are the same.
    pub fn link(&self, from: &str, to: &str) -> Result<&FaultProxy, SandboxError> {
        let pair = (self.index(from)?, self.index(to)?);
        self.links.get(&pair).ok_or_else(|| {
            SandboxError::not_now(from, "has no link to itself; name two different nodes")
        })
    }

    fn set_around(&self, node: &str, fault: Fault) -> Result<(), SandboxError> {
        let index = self.index(node)?;
        self.node(node)?.clients.set(fault);
        for proxy in self
            .links
            .iter()
            .filter(|((from, to), _)| *from == index || *to == index)
            .map(|(_, proxy)| proxy)
        {
            proxy.set(fault);
        }
        Ok(())
    }
}

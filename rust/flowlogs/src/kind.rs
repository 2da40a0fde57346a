//! The kinds of logs.

conntrack_core::words! {
    /// The kind of a log.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        /// VPC flow logs of AWS.
        Aws = "aws",
        /// Flow logs of NSGs and of virtual networks of Azure.
        Azure = "azure",
        /// VPC flow logs of Google Cloud.
        Gcp = "gcp",
        /// `conn.log` of Zeek.
        Zeek = "zeek",
        /// EVE of Suricata: `flow` and `netflow`.
        Suricata = "suricata",
        /// NetFlow version 5 and 9, and IPFIX.
        Netflow = "netflow",
        /// Entries and events of a Linux gateway.
        Conntrack = "conntrack",
    }
}

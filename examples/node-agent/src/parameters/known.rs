/// A parameter that there is.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name, as in FelixConfiguration.
    pub name: &'static str,
    /// Its value when nobody states one.
    pub default: &'static str,
    /// Whether this agent follows it; others are Felix's own and say so when they are set.
    pub used: bool,
}

const fn used(name: &'static str, default: &'static str) -> Known {
    Known {
        name,
        default,
        used: true,
    }
}

const fn unused(name: &'static str, default: &'static str) -> Known {
    Known {
        name,
        default,
        used: false,
    }
}

/// The parameter of this name, in whatever case.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(name))
}

/// Felix's parameters that are met in clusters, and the agent's own.
pub const KNOWN: &[Known] = &[
    used("defaultEndpointToHostAction", "Drop"),
    used("endpointStatusPathPrefix", ""),
    used(
        "failsafeInboundHostPorts",
        "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:6443,tcp:6666,tcp:6667",
    ),
    used(
        "failsafeOutboundHostPorts",
        "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:6443,tcp:6666,tcp:6667",
    ),
    used("healthEnabled", "false"),
    used("healthHost", "localhost"),
    used("healthPort", "9099"),
    used("logSeverityScreen", "Info"),
    used("originValidation", "report"),
    used("prometheusMetricsEnabled", "false"),
    used("prometheusMetricsHost", ""),
    used("prometheusMetricsPort", "9091"),
    used("routeRefreshInterval", "90s"),
    used("workloadSourceSpoofing", "Disabled"),
    unused("allowIPIPPacketsFromWorkloads", "false"),
    unused("allowVXLANPacketsFromWorkloads", "false"),
    unused("bpfEnabled", "false"),
    unused("bpfExternalServiceMode", "Tunnel"),
    unused("bpfKubeProxyIptablesCleanupEnabled", "true"),
    unused("bpfLogLevel", "Off"),
    unused("chainInsertMode", "Insert"),
    unused("dataplaneDriver", "calico-iptables-plugin"),
    unused("datastoreType", "etcdv3"),
    unused("deviceRouteProtocol", "3"),
    unused("deviceRouteSourceAddress", ""),
    unused("deviceRouteSourceAddressIPv6", ""),
    unused("disableConntrackInvalidCheck", "false"),
    unused("endpointReportingEnabled", "false"),
    unused("endpointReportingDelay", "1s"),
    unused("etcdAddr", ""),
    unused("externalNodesList", ""),
    unused("featureDetectOverride", ""),
    unused("felixHostname", ""),
    unused("floatingIPs", "Disabled"),
    unused("flowLogsFlushInterval", "300s"),
    unused("flowLogsGoldmaneServer", ""),
    unused("genericXDPEnabled", "false"),
    unused("interfaceExclude", "kube-ipvs0"),
    unused("interfacePrefix", "cali"),
    unused("interfaceRefreshInterval", "90s"),
    unused("ipForwarding", "Enabled"),
    unused("ipipEnabled", ""),
    used("ipipMTU", "0"),
    unused("ipInIpEnabled", ""),
    used("ipInIpMtu", "0"),
    unused("ipsetsRefreshInterval", "90s"),
    unused("iptablesBackend", "Auto"),
    unused("iptablesFilterAllowAction", "Accept"),
    unused("iptablesFilterDenyAction", "Drop"),
    unused("iptablesLockFilePath", ""),
    unused("iptablesLockProbeInterval", "50ms"),
    unused("iptablesLockTimeout", "0s"),
    unused("iptablesMangleAllowAction", "Accept"),
    unused("iptablesMarkMask", "0xffff0000"),
    unused("iptablesNATOutgoingInterfaceFilter", ""),
    unused("iptablesPostWriteCheckInterval", "1s"),
    unused("iptablesRefreshInterval", "180s"),
    unused("ipv6Support", "true"),
    unused("kubeNodePortRanges", "30000:32767"),
    unused("logDropActionOverride", ""),
    unused("logFilePath", "none"),
    unused("logPrefix", "calico-packet"),
    unused("logSeverityFile", ""),
    unused("logSeveritySys", ""),
    unused("maxIpsetSize", "1048576"),
    unused("metadataAddr", ""),
    unused("metadataPort", "8775"),
    used("mtuIfacePattern", ""),
    unused("natOutgoingAddress", ""),
    unused("natOutgoingExclusions", "IPPoolsOnly"),
    unused("natPortRange", ""),
    unused("netlinkTimeout", "10s"),
    unused("nftablesMode", "Auto"),
    unused("openstackRegion", ""),
    unused("policySyncPathPrefix", ""),
    unused("programClusterRoutes", "EnabledIPIPOnly"),
    unused("prometheusGoMetricsEnabled", "true"),
    unused("prometheusProcessMetricsEnabled", "true"),
    unused("prometheusWireGuardMetricsEnabled", "true"),
    unused("removeExternalRoutes", "true"),
    unused("reportingInterval", "30s"),
    unused("reportingTTL", "90s"),
    unused("routeSource", "CalicoIPAM"),
    unused("routeSyncDisabled", "false"),
    unused("routeTableRange", ""),
    unused("routeTableRanges", ""),
    unused("serviceLoopPrevention", "Drop"),
    unused("sidecarAccelerationEnabled", "false"),
    unused("typhaAddr", ""),
    unused("typhaCAFile", ""),
    unused("typhaK8sServiceName", ""),
    unused("usageReportingEnabled", "true"),
    unused("useInternalDataplaneDriver", "true"),
    unused("vxlanEnabled", ""),
    used("vxlanMTU", "0"),
    used("vxlanMTUV6", "0"),
    unused("vxlanPort", "4789"),
    unused("vxlanVNI", "4096"),
    unused("windowsManageFirewallRules", "Disabled"),
    unused("wireguardEnabled", "false"),
    unused("wireguardEnabledV6", "false"),
    unused("wireguardHostEncryptionEnabled", "false"),
    unused("wireguardInterfaceName", ""),
    unused("wireguardListeningPort", "51820"),
    unused("wireguardMTU", "0"),
    unused("xdpEnabled", "true"),
];

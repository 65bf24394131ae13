use ocicat_cni::agent::{NetworkRequest, Request};
use ocicat_cni::{AddResult, Call, CniError, GcCall, Plugin, StatusCall};

use crate::Config;
use crate::network::{forget, is_absent, unavailable};

/// The IPAM plugin: the node agent's addresses for other plugins, such as `ptp`, `bridge` and `macvlan`.
///
/// Without an agent ADD and CHECK answer code 11, STATUS code 50, and DEL notes what is to be released and succeeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ipam;

impl Plugin for Ipam {
    type Config = Config;

    fn add(&self, call: Call<Config>) -> Result<AddResult, CniError> {
        let request = Request::from_call(&call);
        let notes = call.config.tombstones();
        if notes.contains(&request, true) {
            call.config.client().ipam_del(&request)?;
            forget(&notes, &request, true)?;
        }
        Ok(call.config.client().ipam_add(&request)?)
    }

    fn del(&self, call: Call<Config>) -> Result<(), CniError> {
        let request = Request::from_call(&call);
        match call.config.client().ipam_del(&request) {
            Err(error) if is_absent(&error) => {
                let noted = call.config.tombstones().write(&request, true);
                noted.map_err(|error| CniError::io(error.to_string(), error.source))
            }
            Ok(()) => forget(&call.config.tombstones(), &request, true),
            Err(error) => Err(error.into()),
        }
    }

    fn check(&self, call: Call<Config>) -> Result<(), CniError> {
        Ok(call
            .config
            .client()
            .ipam_check(&Request::from_call(&call))?)
    }

    fn gc(&self, call: GcCall<Config>) -> Result<(), CniError> {
        Ok(call
            .config
            .client()
            .ipam_gc(&NetworkRequest::from_gc(&call))?)
    }

    fn status(&self, call: StatusCall<Config>) -> Result<(), CniError> {
        call.config
            .client()
            .status(&NetworkRequest::from_status(&call))
            .map_err(unavailable)
    }
}

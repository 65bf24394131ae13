//! A stand-alone BGP speaker and route reflector: [`ocicat_bgp`] with a configuration file, signals and, where asked
//! for, the best routes in the kernel.

pub mod config;
pub mod control;
pub mod kernel;
pub mod run;

//! A stand-alone BGP speaker and route reflector

//! Server reflection in both versions that clients ask for: v1, and v1alpha for Postman, Kreya and older tools.

use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use super::settings::MAX_BUILT_IN_REQUEST_BYTES;

/// The services that every server has.
const BUILT_IN: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// Adds both versions to the routes. The descriptor sets must contain their imports, since clients ask for those by
/// name; health and both reflection services are added to them, so that either version lists everything served. Of the
/// services in the sets only `services` (full names) are listed: one set may hold more than one process serves.
///
/// # Errors
/// A set that cannot be decoded.
pub fn add_to(routes: Routes, descriptors: &[&[u8]], services: &[&str]) -> Result<Routes, Error> {
    let builder = || {
        let built_in = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let all = descriptors.iter().copied().chain(built_in);
        let empty = Builder::configure().include_reflection_service(false);
        let listed = services.iter().copied().chain(BUILT_IN).fold(empty, Builder::with_service_name);
        all.fold(listed, Builder::register_encoded_file_descriptor_set)
    };
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    // Each answer repeats its request.
    let (v1, v1alpha) = (
        v1.max_decoding_message_size(MAX_BUILT_IN_REQUEST_BYTES),
        v1alpha.max_decoding_message_size(MAX_BUILT_IN_REQUEST_BYTES),
    );
    // A client compresses all of its calls or none.
    let routes = routes.add_service(v1.accept_compressed(Gzip).accept_compressed(Zstd));
    Ok(routes.add_service(v1alpha.accept_compressed(Gzip).accept_compressed(Zstd)))
}

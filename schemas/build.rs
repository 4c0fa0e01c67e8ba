//! Makes the Protobuf message from `event.proto`, without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=event.proto");
    let files = protox::compile(["event.proto"], ["."])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}

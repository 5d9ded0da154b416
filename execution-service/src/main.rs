//! Runs execution-service as a process of its own.

use execution_service::{Config, Service};
use service_kit::{
    lifecycle::Lifecycle,
    program::{self, Arguments},
    telemetry,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read();
    let config = Config::load(arguments.file(), arguments.settings())?;
    let _telemetry = telemetry::init("execution-service", &config.telemetry);
    let lifecycle = Lifecycle::new();
    lifecycle.install_signals()?;
    let service = Service::bind(config, lifecycle.clone()).await?;
    Ok(program::run("execution-service", lifecycle, service.serve()).await?)
}

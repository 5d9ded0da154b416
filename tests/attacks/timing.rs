//! What the time of an answer tells: nothing of what the caller may not see.

use std::time::{Duration, Instant};

use serde_json::json;
use studios_tests::{deployment::Deployment, tenant::Tenant};
use tonic::Code;
use uuid::Uuid;

const SAMPLES: usize = 2_000;

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_thing_is_not_found_as_fast_as_one_that_is_not_there() {
    let off = ["STUDIOS_LIMITS_USER", "STUDIOS_LIMITS_ADDRESS"].map(|key| (key, "off".to_owned()));
    let deployment = Deployment::start(&off, &[]).await;
    let world = deployment.world().await;
    let (it, other) = (Tenant::make(&world).await, Tenant::with_studio(&world).await);
    for (method, foreign) in [
        ("studios.core.v1.StudioService/GetStudio", &it.studio),
        ("studios.core.v1.FileService/GetFile", &it.file),
    ] {
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for n in 0..SAMPLES {
            // One after the other and in turn, so that what slows the machine slows both.
            for is_there in [n % 2 == 0, n % 2 != 0] {
                let id = if is_there {
                    foreign.clone()
                } else {
                    Uuid::now_v7().to_string()
                };
                let begun = Instant::now();
                let refused = world.refused(method, json!({ "id": id }), &other.token).await;
                let took = begun.elapsed();
                assert_eq!(refused.code(), Code::NotFound);
                if is_there { &mut there } else { &mut absent }.push(took);
            }
        }
        let (there, absent) = (median(&mut there), median(&mut absent));
        let apart = there.abs_diff(absent);
        assert!(
            apart < absent / 10 + Duration::from_micros(50),
            "{method}: {there:?} where it is another's, {absent:?} where it is nobody's"
        );
    }
}

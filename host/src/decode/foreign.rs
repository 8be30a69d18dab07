//! What records have in common that another collector has decoded: what the message and the config add to them. Comes in:
//! a record as its format said it; goes out: the record with exporter, receive time and sampling rate, or the reason why
//! it is refused (no address).

use super::sampling::Sampling;
use super::stats::{DecodeStats, RateOrigin, Refusal};
use crate::config::decode_options::DecodeOptions;
use crate::model::{Addr, FlowRecord, Frame};

/// Why a record is refused, for the counter and for a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bad {
    pub why: Refusal,
    /// What cannot be read.
    pub what: &'static str,
}

impl Bad {
    pub const NO_ADDRESS: Bad = Bad { why: Refusal::NoAddress, what: "neither a source nor a destination address" };
}

/// What the config says about such records.
pub(super) struct Foreign {
    options: DecodeOptions,
}

impl Foreign {
    pub fn new(options: &DecodeOptions) -> Self {
        Self { options: options.clone() }
    }

    /// Completes the record and counts it. Its own receive time and exporter win over the message's; without any of
    /// either, a flow was received when it ended.
    #[inline]
    pub fn settle(&self, r: &mut FlowRecord, frame: &Frame, stats: &mut DecodeStats) -> Result<(), Bad> {
        if r.src_addr == Addr::UNSPECIFIED && r.dst_addr == Addr::UNSPECIFIED {
            return Err(Bad::NO_ADDRESS);
        }
        if r.sampler_address == Addr::UNSPECIFIED && !frame.peer.ip().is_unspecified() {
            r.sampler_address = Addr::from(frame.peer.ip());
        }
        let times = [r.time_received_ns, frame.received_ns, r.time_flow_end_ns];
        r.time_received_ns = times.into_iter().find(|t| *t > 0).unwrap_or(r.time_flow_start_ns);
        let origin = self.rate(r);
        stats.sampling[origin as usize] += 1;
        stats.flows[r.flow_type as usize] += 1;
        Ok(())
    }

    #[inline]
    fn rate(&self, r: &mut FlowRecord) -> RateOrigin {
        let origin;
        if self.options.sampling_overrides.is_empty() {
            origin = match (r.sampling_rate, self.options.sampling_rate) {
                (0, None) => RateOrigin::Unknown,
                (0, Some(rate)) => {
                    r.sampling_rate = rate;
                    RateOrigin::Config
                }
                _ => RateOrigin::Record,
            };
        } else {
            let sampling = Sampling::new(&self.options, r.sampler_address.to_ip());
            (r.sampling_rate, origin) = sampling.resolve(r.observation_domain_id, None, r.sampling_rate);
        }
        origin
    }
}

//! TorchScript: an archive in, a reconstruction or a loss per row out. Refused: what cannot be loaded or run, and other
//! outputs.

use crate::fault::{Fault, Result};
use tch::{CModule, Device, Kind, Tensor};

/// A module on a device.
pub struct Script {
    module: CModule,
    width: i64,
    device: Device,
    kind: Kind,
    /// Gives a loss per row, not the row again.
    tells_loss: bool,
}

impl Script {
    /// Loads the archive and tries it on two rows of zeros.
    pub fn new(mut archive: &[u8], width: i64, device: Device, kind: Kind) -> Result<Self> {
        let unreadable = |error| Fault::from(error).about("the TorchScript archive cannot be loaded");
        let mut module = CModule::load_data_on_device(&mut archive, device).map_err(unreadable)?;
        module.f_set_eval()?;
        if kind != Kind::Float {
            // The only form there is; its panic becomes an error further out.
            module.to(device, kind, false);
        }
        let mut script = Self { module, width, device, kind, tells_loss: false };
        let rows = 2;
        let trial = Tensor::f_zeros([width, rows], (Kind::Float, device))?;
        let output = script.run(&trial)?;
        script.tells_loss = match *output.size() {
            [n, w] if (n, w) == (rows, width) => false,
            [n] | [n, 1] if n == rows => true,
            ref other => return Err(script.misfit(rows, other)),
        };
        Ok(script)
    }

    /// A loss per row, not the row again.
    pub fn tells_loss(&self) -> bool {
        self.tells_loss
    }

    /// [width, rows] to [width, rows], or to [rows] where it tells the loss; `f32`.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let rows = input.size()[1];
        let output = self.run(input)?;
        match *output.size() {
            [n, w] if !self.tells_loss && (n, w) == (rows, self.width) => Ok(output.f_transpose(0, 1)?),
            [n] | [n, 1] if self.tells_loss && n == rows => Ok(output.f_reshape([rows])?),
            ref other => Err(self.misfit(rows, other)),
        }
    }

    fn run(&self, input: &Tensor) -> Result<Tensor> {
        // Its own copy, for it may write to it.
        let mut rows = Tensor::f_empty([input.size()[1], self.width], (self.kind, self.device))?;
        rows.f_copy_(&input.f_transpose(0, 1)?)?;
        let failed = |error| Fault::from(error).about("the TorchScript module cannot be run");
        Ok(self.module.forward_ts(&[rows]).map_err(failed)?.f_to_kind(Kind::Float)?)
    }

    fn misfit(&self, rows: i64, size: &[i64]) -> Fault {
        let width = self.width;
        Fault::refused(format!(
            "for ({rows}, {width}) the TorchScript module gives {size:?}; wanted is the reconstruction ({rows}, {width}), \
             or a loss per row, ({rows}) or ({rows}, 1)"
        ))
    }
}

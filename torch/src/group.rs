//! Models that score the same rows: a filled buffer in, losses out; on a CUDA device one copy each way.
//! Refused: columns that are not there, models of several devices, room that does not do.

use crate::device::{Buffer, length, upload};
use crate::fault::{Fault, Result};
use crate::model::{Model, Origin};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Rows at once on the CPU: what a network of the usual size works on then stays in the cache. Measured.
const CPU_ROWS: i64 = 2048;

/// The models and where their features are.
pub struct Group {
    members: Vec<Member>,
    columns: usize,
    device: Device,
}

struct Member {
    model: Arc<Model>,
    /// Columns in the features' order; none where these are all columns in order.
    columns: Option<Tensor>,
    origin: Origin,
}

impl Member {
    fn new((model, columns, offsets): (Arc<Model>, &[u32], &[f64]), all: usize) -> Result<Self> {
        if let Some(column) = columns.iter().find(|c| **c as usize >= all) {
            return Err(Fault::refused(format!("there is no column {column} among {all}")));
        }
        let device = model.device();
        let columns: Vec<u32> = model.order().iter().map(|&feature| columns[feature]).collect();
        let offsets: Vec<f64> = model.order().iter().map(|&feature| offsets[feature]).collect();
        let as_they_are = columns.len() == all && columns.iter().enumerate().all(|(i, c)| i == *c as usize);
        let columns: Vec<i64> = columns.iter().map(|c| i64::from(*c)).collect();
        let columns = if as_they_are { None } else { Some(upload(&columns, &[-1], device)?) };
        let origin = Origin::new(model.features(), &offsets, device)?;
        Ok(Self { model, columns, origin })
    }

    fn score(&self, matrix: &Tensor, losses: &mut Tensor) -> Result<()> {
        match &self.columns {
            Some(columns) => self.model.score(&matrix.f_index_select(0, columns)?, &self.origin, losses),
            None => self.model.score(matrix, &self.origin, losses),
        }
    }
}

impl Group {
    /// Of models, each with its columns and their offsets, over a matrix of that many columns.
    pub fn new(members: Vec<(Arc<Model>, &[u32], &[f64])>, columns: usize) -> Result<Self> {
        let Some((first, ..)) = members.first() else { return Err(Fault::refused("a group of no models")) };
        let device = first.device();
        if let Some((other, ..)) = members.iter().find(|(model, ..)| model.device() != device) {
            return Err(Fault::refused(format!("a group on both {device:?} and {:?}", other.device())));
        }
        let members = members.into_iter().map(|member| Member::new(member, columns)).collect::<Result<_>>()?;
        Ok(Self { members, columns, device })
    }

    /// Scores the parts that are in the buffer.
    pub fn score(&self, buffer: &mut Buffer, parts: &[usize], losses: &mut [f32]) -> Result<()> {
        if buffer.device() != self.device {
            return Err(Fault::refused(format!("a buffer for {:?} given to {:?}", buffer.device(), self.device)));
        }
        let rows: usize = parts.iter().sum();
        let wanted = self.members.len() * 2 * rows;
        if losses.len() < wanted {
            return Err(Fault::refused(format!("{wanted} losses have no room in {}", losses.len())));
        }
        if rows == 0 {
            return Ok(());
        }
        let matrix = self.matrix(&buffer.on_device(self.columns * rows)?, parts)?;
        let size = [length(self.members.len() * 2)?, length(rows)?];
        if self.device.is_cuda() {
            let out = Tensor::f_empty(size, (Kind::Float, self.device))?;
            self.run(&matrix, &out)?;
            buffer.fetch(&out)?.f_copy_data(losses, wanted)?;
        } else {
            // SAFETY: it has the room, and the tensor is gone when this returns.
            let out = unsafe { Tensor::f_from_blob(losses.as_mut_ptr().cast(), &size, &[], Kind::Float, Device::Cpu)? };
            for start in (0..size[1]).step_by(CPU_ROWS as usize) {
                let rows = CPU_ROWS.min(size[1] - start);
                self.run(&matrix.f_narrow(1, start, rows)?, &out.f_narrow(1, start, rows)?)?;
            }
        }
        Ok(())
    }

    /// The parts beside each other: [columns, rows].
    fn matrix(&self, flat: &Tensor, parts: &[usize]) -> Result<Tensor> {
        let columns = length(self.columns)?;
        let mut start = 0;
        let mut views = Vec::with_capacity(parts.len());
        for rows in parts.iter().filter(|rows| **rows > 0) {
            let rows = length(*rows)?;
            views.push(flat.f_narrow(0, start, columns * rows)?.f_view([columns, rows])?);
            start += columns * rows;
        }
        match <[Tensor; 1]>::try_from(views) {
            Ok([one]) => Ok(one),
            Err(views) => Ok(Tensor::f_cat(&views, 1)?),
        }
    }

    /// [columns, rows] to [models x 2, rows].
    fn run(&self, matrix: &Tensor, out: &Tensor) -> Result<()> {
        for (at, member) in self.members.iter().enumerate() {
            member.score(matrix, &mut out.f_narrow(0, 2 * length(at)?, 2)?)?;
        }
        Ok(())
    }
}

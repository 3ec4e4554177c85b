//! An NVIDIA GPU as a [`Launcher`], through candle's device.

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, sys,
};
use candle_core::{CudaDevice, Error, Result, Storage, Tensor};

use super::{Launch, Launcher, Parameters, Resident};

/// kernels.cu, compiled by build.rs.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

pub struct Gpu(pub CudaDevice);

/// Parameters as cudarc takes them.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Argument<P>(P);

// SAFETY: a kernel's parameters are laid out as in C.
unsafe impl<P: Parameters> DeviceRepr for Argument<P> {}

// SAFETY: a slice keeps its address and size, and `get` synchronises the only stream that is used.
unsafe impl Launcher for Gpu {
    type Words = CudaSlice<u32>;

    fn put(&self, words: &[u32]) -> Result<Self::Words> {
        self.0.clone_htod(words)
    }

    fn zeros(&self, words: usize) -> Result<Self::Words> {
        self.0.alloc_zeros(words)
    }

    fn get(&self, words: &Self::Words) -> Result<Vec<u32>> {
        let values = self.0.clone_dtoh(words)?;
        self.0.synchronize()?;
        Ok(values)
    }

    fn size(&self, words: &Self::Words) -> usize {
        words.len()
    }

    fn address(&self, words: &mut Self::Words) -> u64 {
        // Everything here is in one stream, so using the address needs no synchronisation.
        words.device_ptr_mut(&self.0.cuda_stream()).0
    }

    fn most_blocks(&self) -> Result<u32> {
        let count = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let count = self.0.cuda_stream().context().attribute(count).map_err(Error::wrap)?;
        Ok(u32::try_from(count).unwrap_or(1))
    }

    unsafe fn launch<P: Parameters>(&self, launch: Launch, parameters: &P) -> Result<()> {
        if PTX.trim().is_empty() {
            candle_core::bail!("this program was built without its kernels");
        }
        let function = self.0.get_or_load_custom_func(launch.kernel, "knockline", PTX)?;
        let argument = Argument(*parameters);
        let mut builder = function.builder();
        builder.arg(&argument);
        let shared_mem_bytes = u32::try_from(4 * launch.shared).map_err(Error::wrap)?;
        let config = LaunchConfig {
            grid_dim: (launch.blocks, 1, 1),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes,
        };
        // SAFETY: the caller guarantees the addresses. Blocks that wait for each other must all run
        // at once, which only a cooperative launch guarantees.
        unsafe { builder.launch_cooperative(config) }.map_err(Error::wrap)?;
        Ok(())
    }
}

/// The addresses of the features, f32 \[n, d\], and labels, u32 \[n\], valid as long as the tensors
/// live.
pub fn addresses(device: &CudaDevice, (x, y): &(Tensor, Tensor)) -> Result<Resident> {
    let stream = device.cuda_stream();
    let start = |tensor: &Tensor| {
        let start = tensor.layout().contiguous_offsets().map(|(start, _)| start as u64);
        start.ok_or_else(|| Error::Msg("a tensor is not contiguous".into()))
    };
    let (x_storage, _) = x.storage_and_layout();
    let (y_storage, _) = y.storage_and_layout();
    match (&*x_storage, &*y_storage) {
        (Storage::Cuda(xs), Storage::Cuda(ys)) => Ok(Resident {
            x: xs.as_cuda_slice::<f32>()?.device_ptr(&stream).0 + 4 * start(x)?,
            y: ys.as_cuda_slice::<u32>()?.device_ptr(&stream).0 + 4 * start(y)?,
        }),
        _ => Err(Error::Msg("the rows are not on the GPU".into())),
    }
}

use super::{Classifier, Feature, Hidden, Vgg};
use fngd_module::author::{Apply, Export, Value, Window};

impl Export for Vgg {
    fn class(&self) -> &'static str {
        "VGG"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        xs.apply_all("features", &self.features).apply("classifier", &self.classifier)
    }
}

impl Export for Feature {
    fn class(&self) -> &'static str {
        match self {
            Self::Conv(conv) => conv.class(),
            Self::Norm(norm) => norm.class(),
            Self::Relu => "torch.nn.modules.activation.ReLU",
            Self::Pool => "torch.nn.modules.pooling.MaxPool2d",
        }
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        match self {
            Self::Conv(conv) => conv.export(xs),
            Self::Norm(norm) => norm.export(xs),
            Self::Relu => xs.relu(),
            Self::Pool => xs.max_pool(Window { kernel: &[2, 2], stride: &[2, 2], padding: &[0, 0], dilation: &[1, 1] }),
        }
    }
}

impl Export for Classifier {
    fn class(&self) -> &'static str {
        match self {
            Self::Cifar(linear) => linear.class(),
            Self::ImageNet(_) => "torch.nn.modules.container.Sequential",
        }
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        match self {
            Self::Cifar(linear) => linear.export(xs.flatten()),
            // Pooling to 7x7 changes nothing: the features of 224x224 images have this size.
            Self::ImageNet(hidden) => hidden.export(xs.flatten()),
        }
    }
}

impl Hidden {
    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let xs = xs.apply(0, &self.first).relu().dropout(0.5);
        xs.apply(3, &self.second).relu().dropout(0.5).apply(6, &self.last)
    }
}

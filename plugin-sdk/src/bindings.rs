//! What wit-bindgen makes of the contract, in parts: what every plugin has, and one part per role. A component is the union of
//! the parts that it exports. Authors use the types of the crate's root instead.

wit_bindgen::generate!({
    path: "../wit",
    inline: "
        package kaminari:sdk;
        world base {
            include kaminari:plugin/host-services@0.1.2;
            export kaminari:plugin/lifecycle@0.1.2;
            export kaminari:plugin/checkpoint@0.1.2;
            export kaminari:plugin/migration@0.1.2;
        }
    ",
    world: "kaminari:sdk/base",
    pub_export_macro: true,
    export_macro_name: "export_base",
    default_bindings_module: "kaminari_plugin_sdk::bindings",
    generate_all,
});

macro_rules! role {
    ($module:ident, $world:literal, $inline:literal, $export:literal, $path:literal) => {
        #[allow(missing_docs)]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit",
                inline: $inline,
                world: $world,
                with: {
                    "kaminari:plugin/common@0.1.2": crate::bindings::kaminari::plugin::common,
                    "kaminari:plugin/data@0.1.2": crate::bindings::kaminari::plugin::data,
                },
                pub_export_macro: true,
                export_macro_name: $export,
                default_bindings_module: $path,
                generate_all,
            });
        }
    };
}

role!(
    source,
    "kaminari:sdk/source",
    "package kaminari:sdk; world source { export kaminari:plugin/source-decoder@0.1.2; }",
    "export_source_part",
    "kaminari_plugin_sdk::bindings::source"
);
role!(
    extractor,
    "kaminari:sdk/extractor",
    "package kaminari:sdk; world extractor { export kaminari:plugin/feature-extractor@0.1.2; }",
    "export_extractor_part",
    "kaminari_plugin_sdk::bindings::extractor"
);
role!(
    detector,
    "kaminari:sdk/detector",
    "package kaminari:sdk; world detector { export kaminari:plugin/detector@0.1.2; }",
    "export_detector_part",
    "kaminari_plugin_sdk::bindings::detector"
);

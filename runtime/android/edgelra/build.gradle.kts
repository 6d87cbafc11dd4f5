plugins {
    id("com.android.library")
}

android {
    namespace = "org.edgelra"
    compileSdk = 35

    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
}

dependencies {
    // An app's own version wins where it is higher; bundles say which they need.
    api("com.microsoft.onnxruntime:onnxruntime-android:1.23.0")
    implementation("com.google.code.gson:gson:2.11.0")
    compileOnly("org.jetbrains:annotations:26.0.1")
}
